"""`make bench`: what one worker process settles, and how soon an event reaches its handler.

Throughput: a stream is loaded, then one `headgate worker` process with a handler that does nothing settles
it; the rate is that between two snapshots of the server's own counters and clock, after the first twentieth
and near the end, so starting the process is not in it. With five branches five groups read the same stream:
one worker process a branch, one branch after the other; the rate is all deliveries over the seconds all
five took.

The yardstick, in the same round, on the same server, over loopback TCP: a C client (raw.c) with one
pipeline at a time, XACK of the last batch and XREADGROUP COUNT 100 of the next in one write.
`rawSaturated...` is the same client with four reads under way: the most the server gives.

Latency: another process publishes at a fixed rate (open loop); the handler compares the time each event was
due with the clock of the same machine; the first second is left out.

Every round measures all of it anew; the figures are medians over the rounds, ratios are taken within a
round. A round in which anything was not settled exactly once is an error and ends the run with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bench.raw import CompilerMissingError, raw_client
from bench.rounds import Bench, InvalidRunError, Round, Settings
from bench.workers import WorkerFailedError
from headgate.streams import Server
from streams.servers import SERVERS, ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """examples:
  make bench                                             all of it, about two minutes
  make bench ARGS='--server valkey'                      on Valkey instead of Redis
  make bench ARGS='--rounds 1 --events 20000'            a quick look
  make bench ARGS='--rate 5000 --latency-seconds 20'     latency under more load
"""


def summary(rounds: Sequence[Round], settings: Settings) -> dict[str, float | int | str]:
    """The last line: medians over the rounds, ratios taken within a round."""

    def median(values: Sequence[float], digits: int) -> float:
        return round(statistics.median(values), digits)

    return {
        "ratio": median([each.worker / each.raw for each in rounds], 4),
        "fanout5Ratio": median([each.worker_fanout5 / each.raw_fanout5 for each in rounds], 4),
        "latencyP50Ms": median([each.latency_p50_ms for each in rounds], 3),
        "latencyP99Ms": median([each.latency_p99_ms for each in rounds], 3),
        "eventsPerSecond": median([each.worker for each in rounds], 0),
        "fanout5DeliveriesPerSecond": median([each.worker_fanout5 for each in rounds], 0),
        "rawEventsPerSecond": median([each.raw for each in rounds], 0),
        "rawFanout5DeliveriesPerSecond": median([each.raw_fanout5 for each in rounds], 0),
        "rawSaturatedEventsPerSecond": median([each.raw_saturated for each in rounds], 0),
        "publisherWorstLateMs": median([each.publisher_late_ms for each in rounds], 3),
        "latencyRatePerSecond": settings.rate,
        "events": settings.events,
        "dataBytes": 200,
        "concurrency": settings.concurrency,
        "rounds": len(rounds),
        "server": settings.server,
        "seed": settings.seed,
        "loadAverage": round(os.getloadavg()[0], 2),
        "processors": os.cpu_count() or 0,
    }


async def run(settings: Settings) -> list[Round]:
    """All rounds on one server of their own; raises what makes a run invalid."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        raw = opened.enter_context(raw_client())
        url = opened.enter_context(SERVERS[settings.server]())
        server = Server.connect(url)
        try:
            bench = Bench(url, server, raw, folder, settings, Random(settings.seed))
            return [await bench.round(number) for number in range(settings.rounds)]
        finally:
            await server.aclose()


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", choices=("redis7", "valkey"), default="redis7", help="default: redis7")
    parser.add_argument(
        "--rounds", type=int, default=3, help="the figures are medians over so many (default: 3)"
    )
    parser.add_argument("--events", type=int, default=100_000, help="in the stream (default: 100000)")
    parser.add_argument(
        "--concurrency", type=int, default=8, help="of the branch (default: 8, as in the API)"
    )
    parser.add_argument("--rate", type=int, default=1000, help="events a second for latency (default: 1000)")
    parser.add_argument("--latency-seconds", type=float, default=10, help="seconds a round (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the events' data (default: 1)")
    return Settings(**vars(parser.parse_args(arguments)))


def main() -> int:
    """Runs the benchmark; 0, or 1 with the reason on standard error."""
    settings = parse()
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(
        f"seed {settings.seed}, server {settings.server}, {os.cpu_count()} processors, load average {load}",
        flush=True,
    )
    print(
        f"Python {platform.python_version()}, concurrency {settings.concurrency}, {settings.events} events",
        flush=True,
    )
    if os.getloadavg()[0] > 0.5:
        print("the machine is not idle: absolute figures will be low, ratios less so", flush=True)
    try:
        rounds = asyncio.run(run(settings))
    except (InvalidRunError, WorkerFailedError, CompilerMissingError, ServerMissingError) as error:
        print(f"bench: invalid run: {error}", file=sys.stderr)
        return 1
    print(json.dumps(summary(rounds, settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
