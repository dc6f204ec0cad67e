"""`make bench-autoscale`: the pilot beside KEDA and beside an oracle that knows the future.

Six recorded load traces are replayed in simulated time against the pilot's own decision, against a model of KEDA with
its defaults and tuned as far as it goes, and against the least anybody could do. Then the pilot is measured on
the cluster of hack/cluster: twelve bursts from zero to one worker and to 32, the way back to zero, and one trace in
real time.

The last line is JSON; a target that is missed ends the command with 1, and is named.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from bench.autoscale.comparison import compare, figures
from bench.autoscale.on_cluster import measure_on_cluster
from bench.autoscale.targets import missed
from bench.autoscale.traces import BRANCHES, load
from commands import run_command

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """examples:
  make bench-autoscale                                     all of it, with the cluster: about ten minutes
  make bench-autoscale ARGS=--simulated                    simulated time only: half a minute
  make bench-autoscale ARGS='--simulated --traces bursts'  one trace
  make bench-autoscale ARGS='--cluster --bursts 3'         a quick look at the cluster
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's settings; raises SystemExit."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.autoscale",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--traces", nargs="+", choices=tuple(BRANCHES), default=tuple(BRANCHES), help="which traces (all)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="how long each event takes, and where KEDA is in its periods as a trace begins (%(default)s)",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--simulated", action="store_true", help="simulated time only")
    only.add_argument("--cluster", action="store_true", help="the cluster only")
    parser.add_argument(
        "--bursts", type=int, default=12, help="bursts of each kind on the cluster (%(default)s)"
    )
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def simulate(names: Sequence[str], seed: int) -> dict[str, Any]:
    """The figures over all traces and of each, in simulated time."""
    comparisons = []
    for name in names:
        comparison = compare(load(name), seed)
        comparisons.append(comparison)
        for line in comparison.lines():
            say(line)
    each = {comparison.trace.name: figures([comparison]) for comparison in comparisons}
    return figures(comparisons) | {"traces": each}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; 1 when a target was missed."""
    settings = parse(arguments)
    found: dict[str, Any] = {"seed": settings.seed}
    if not settings.cluster:
        found |= simulate(settings.traces, settings.seed)
    if not settings.simulated:
        found["cluster"] = measure_on_cluster(settings.bursts, say)
    failures = missed(found)
    for failure in failures:
        say(f"missed: {failure}")
    print(json.dumps(found))
    return 1 if failures else 0


if __name__ == "__main__":
    run_command(main)
