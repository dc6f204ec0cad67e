"""`make crash-operator`: the operator is killed before and after every single write, and must end up in the same state.

A script of twelve changes (create, add branch, scale limits, handler change, backpressure, pause, bad spec, fix, remove
branch, rename Redis, delete, re-create) is first made without harm, twice: that gives the reference states, and every
write to Kubernetes and Redis that each change takes. Then it is made again and again. In each change the operator, a
process of its own, gets SIGKILL before one of those writes is done, or when it is done and nobody was told; another
one is started, and the state must become the reference's. More runs are killed twice, or at rest; the rest meet stale
reads, dropped and doubled watch events, 409s, 429s and 5 s of latency.

Real: the operator (its whole assembly, as `headgate operator` runs it), kube-apiserver, etcd, two Redis servers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.operator.campaign import Campaign
from cluster.apiserver import ApiServer
from commands import run_command
from streams.servers import ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXAMPLES = """examples:
  make crash-operator                               every crash point, all weathers
  make crash-operator ARGS='--sample 60 --storms 1' a quick look
  make crash-operator ARGS='--logs /tmp/crashes'    keeps the operators' logs
"""


def say(text: str) -> None:
    """One line of progress."""
    print(f"crash-operator: {text}", flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make crash-operator",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="default: another one each time; it is in the last line")
    parser.add_argument("--lanes", type=int, default=4, help="operators side by side (default: 4)")
    parser.add_argument(
        "--sample", type=int, default=0, help="crash points drawn from all (default: every one)"
    )
    parser.add_argument(
        "--twice", type=int, default=12, help="walks that are killed twice a change (default: 12)"
    )
    parser.add_argument("--storms", type=int, default=4, help="walks in each sort of weather (default: 4)")
    parser.add_argument("--logs", type=Path, help="a new folder for the operators' logs (default: not kept)")
    settings = parser.parse_args(arguments)
    if settings.seed is None:
        settings.seed = random.randrange(2**32)
    return settings


async def run(settings: argparse.Namespace) -> dict[str, Any]:
    """All of it; gives the last line."""
    with contextlib.ExitStack() as opened:
        folder = settings.logs
        if folder is None:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="headgate-crashes-")))
        (folder / "api").mkdir(parents=True)
        server = ApiServer(folder / "api").start()
        opened.callback(server.stop)
        campaign = Campaign(server, folder, f"{settings.seed}", say)
        return await campaign.run(
            lanes=settings.lanes, sample=settings.sample, twice=settings.twice, storms=settings.storms
        )


def main() -> int:
    """Runs it; 0, or 1 when anything differed, or more points were never met than `Points.most_unmet` says."""
    settings = parse()
    say(f"seed {settings.seed}")
    began = time.monotonic()
    try:
        found = asyncio.run(run(settings))
    except ServerMissingError as error:
        print(f"crash-operator: {error}", file=sys.stderr)
        return 1
    found |= {"seconds": round(time.monotonic() - began, 1), "seed": settings.seed}
    print(json.dumps(found))
    return exit_code(found)


def exit_code(found: Mapping[str, Any]) -> int:
    """Of a run with these figures; says what is wrong where the figures alone do not."""
    if found["unmet"] > found["mostUnmet"]:
        say(f"{found['unmet']} points never met, more than {found['mostUnmet']}: not every write was tried")
        return 1
    return 1 if found["differences"] else 0


if __name__ == "__main__":
    run_command(main)
