"""`make chaos-workers`: the ledger. Everything workers do is written down, and compared with what was planned.

Events go through five branches with retries, splits, joins, batches, effects and an order by key. Every half second a
worker is killed (SIGKILL) and another started in its place; now and then one is paused (SIGSTOP) for longer than it
takes until others claim its work, one is drained (SIGTERM), and connections are cut. In a second phase the server, with
its append-only file, is killed (SIGKILL) and started again too.

In the end: every event has its outcome in every branch (else: lost), every effect is there once (doubled), the lines of
each key are in order (misordered), and every join has one record that says what it must (joinsWrong). 0 of each, or the
command ends with 1 and names the first offenders.

The seed decides the events, their keys, lanes, parts and failures, and which worker is struck how in which order. The
timing of the operating system it does not: the same seed meets another interleaving.
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

from chaos.ledger.plan import Plan
from chaos.ledger.run import Phase, Report
from chaos.ledger.server import DurableServer
from chaos.ledger.verify import SHOWN
from commands import run_command
from streams.servers import SERVERS, ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """examples:
  make chaos-workers                                            both phases, three to seven minutes
  make chaos-workers ARGS='--seed 7'                            the same events and strikes again
  make chaos-workers ARGS='--events 10000 --restart-events 0'   a quick look
  make chaos-workers ARGS='--server cluster'                    the first phase on a cluster of three masters
"""


def say(text: str) -> None:
    """One line of progress."""
    print(f"ledger: {text}", flush=True)


def summary(seed: int, reports: Sequence[Report], seconds: float) -> dict[str, Any]:
    """The last line, over all phases."""

    def total(figure: str) -> int:
        return sum(getattr(report, figure) for report in reports)

    def faults(kind: str) -> int:
        return sum(getattr(report.verdict, kind) for report in reports)

    def struck(kind: str) -> int:
        return sum(report.struck[kind] for report in reports)

    return {
        "events": total("published"),
        "kills": struck("kill"),
        "lost": faults("lost"),
        "doubled": faults("doubled"),
        "misordered": faults("misordered"),
        "joinsWrong": faults("joins_wrong"),
        "crashes": sum(len(report.crashes) for report in reports),
        "pauses": struck("pause"),
        "drains": struck("drain"),
        "cuts": struck("cut"),
        "restarts": struck("restart"),
        "stalls": struck("stall"),
        "handled": total("handled"),
        "deliveries": total("deliveries"),
        "retries": total("retries"),
        "seconds": round(seconds, 1),
        "seed": seed,
    }


async def run(settings: argparse.Namespace) -> list[Report]:
    """The phases that were asked for, each on a server of its own."""
    reports = []
    with contextlib.ExitStack() as opened:
        folder = settings.logs
        if folder is None:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="headgate-ledger-")))
        if settings.events:
            plan = Plan(f"{settings.seed}", settings.events)
            say(f"phase 1: {plan.count} events, {plan.total} with what becomes of them, on {settings.server}")
            with SERVERS[settings.server]() as url:
                reports.append(await Phase(plan, url, say).run(_made(folder / "1"), settings.seconds))
        if settings.restart_events:
            plan = Plan(f"{settings.seed}/restarts", settings.restart_events)
            say(
                f"phase 2: {plan.count} events, {plan.total} with what becomes of them, while the server is killed"
            )
            with DurableServer.running() as durable:
                phase = Phase(plan, durable.url, say)
                reports.append(
                    await phase.run(_made(folder / "2"), settings.seconds / 2, durable, settings.restarts)
                )
    return reports


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make chaos-workers",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="default: another one each time; it is in the last line")
    parser.add_argument(
        "--events", type=int, default=200_000, help="published in phase 1 (default: 200000; 0: no phase 1)"
    )
    parser.add_argument(
        "--restart-events",
        type=int,
        default=40_000,
        help="published in phase 2 (default: 40000; 0: no phase 2)",
    )
    parser.add_argument(
        "--restarts", type=int, default=3, help="of the server, in phase 2, after SIGKILL (default: 3)"
    )
    parser.add_argument(
        "--server", choices=tuple(SERVERS), default="redis7", help="of phase 1 (default: redis7)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=180,
        help="a storm lasts until all is settled, at most so long (default: 180; in phase 2 half as long); "
        "what is left then is settled in calm, within five minutes, or lost",
    )
    parser.add_argument("--logs", type=Path, help="a new folder for the workers' logs (default: not kept)")
    settings = parser.parse_args(arguments)
    if settings.seed is None:
        settings.seed = random.randrange(2**32)
    return settings


def main() -> int:
    """Runs the ledger; 0, or 1 with the first offenders before the last line."""
    settings = parse()
    say(f"seed {settings.seed}")
    began = time.monotonic()
    try:
        reports = asyncio.run(run(settings))
    except ServerMissingError as error:
        print(f"chaos-workers: {error}", file=sys.stderr)
        return 1
    for number, report in enumerate(reports, 1):
        for line in (*report.verdict.faults, *report.crashes[:SHOWN]):
            say(f"phase {number}: {line}")
    print(json.dumps(summary(settings.seed, reports, time.monotonic() - began)))
    return 0 if all(report.is_clean for report in reports) else 1


if __name__ == "__main__":
    run_command(main)
