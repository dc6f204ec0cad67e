"""`make bench`: what one worker process settles, how soon an event reaches its handler, and what peers do.

Throughput: a stream is loaded, then one `headgate worker` process with a handler that does nothing settles
it; the rate is that between two snapshots of the server's own counters and clock, after the first twentieth
and near the end, so starting the process is not in it. With five branches five groups read the same stream:
one worker process a branch, one branch after the other; the rate is all deliveries over the seconds all
five took. The same with joins, effects, batches, a filter, order by key.

The yardstick, in the same round, on the same server, over loopback TCP: a C client (raw.c) with one
pipeline at a time, XACK of the last batch and XREADGROUP COUNT 100 of the next in one write.
`rawSaturated...` is the same client with four reads under way: the most the server gives.

Latency: another process publishes at a fixed rate (open loop); the handler compares the time each event was
due with the clock of the same machine; the first second is left out. The C client does the same beside it.

Peers: each one's own worker, one process, on a server of its own, on events its own client enqueued.

Every round measures all of it anew; the figures are medians over the rounds, ratios are taken within a
round. A round in which anything was not settled exactly once is an error and ends the run with 1, and so
does a floor that was missed. docs/benchmarks.md says more.
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
from typing import TYPE_CHECKING, Any

from bench.figures import InvalidRunError
from bench.floors import missed
from bench.peer_runs import PEERS, install_peers, versions
from bench.raw import CompilerMissingError, raw_client
from bench.rounds import Bench, Round, Settings
from bench.work import BATCH, FANOUT5, PLAIN, WORKS
from bench.workers import WorkerFailedError
from commands import run_command
from headgate.streams import Server
from streams.servers import SERVERS, ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXAMPLES = """examples:
  make bench                                                      all of it, about six minutes
  make bench ARGS=--no-peers                                      without the peers, four minutes
  make bench ARGS='--server valkey'                               on Valkey instead of Redis
  make bench ARGS='--rounds 1 --events 50000 --no-peers'          a quick look, one minute
"""


def summary(rounds: Sequence[Round], settings: Settings) -> dict[str, Any]:
    """The last line: medians over the rounds, ratios taken within a round."""

    def median(of: Callable[[Round], float], digits: int) -> float:
        return round(statistics.median([of(each) for each in rounds]), digits)

    figures: dict[str, Any] = {
        "ratio": median(lambda at: at.worker[PLAIN.name] / at.raw, 4),
        "fanout5Ratio": median(lambda at: at.worker[FANOUT5.name] / at.raw_fanout5, 4),
        "fanout5ToOneBranch": median(lambda at: at.worker[FANOUT5.name] / at.worker[PLAIN.name], 4),
        "eventsPerSecond": median(lambda at: at.worker[PLAIN.name], 0),
        "fanout5DeliveriesPerSecond": median(lambda at: at.worker[FANOUT5.name], 0),
    }
    for work in WORKS:
        if work not in (PLAIN, FANOUT5):
            figures[f"{work.name}EventsPerSecond"] = median(lambda at, name=work.name: at.worker[name], 0)
    figures |= {
        "workerMemoryMb": round(max(at.memory_mb for at in rounds), 1),
        "latencyP50Ms": median(lambda at: at.latency[1000].p50, 3),
        "latencyP99Ms": median(lambda at: at.latency[1000].p99, 3),
        "latency5000P50Ms": median(lambda at: at.latency[5000].p50, 3),
        "latency5000P99Ms": median(lambda at: at.latency[5000].p99, 3),
        "rawLatencyP50Ms": median(lambda at: at.latency[5000].raw_p50, 3),
        "rawLatencyP99Ms": median(lambda at: at.latency[5000].raw_p99, 3),
        "publisherWorstLateMs": median(lambda at: at.latency[5000].publisher_late, 3),
        "rawEventsPerSecond": median(lambda at: at.raw, 0),
        "rawFanout5DeliveriesPerSecond": median(lambda at: at.raw_fanout5, 0),
        "rawSaturatedEventsPerSecond": median(lambda at: at.raw_saturated, 0),
    }
    if settings.peers:
        figures |= beside_peers(rounds)
    return figures | {
        "events": settings.events,
        "dataBytes": 200,
        "concurrency": settings.concurrency,
        "rounds": len(rounds),
        "server": settings.server,
        "seed": settings.seed,
        "loadAverage": round(os.getloadavg()[0], 2),
        "processors": os.cpu_count() or 0,
    }


def beside_peers(rounds: Sequence[Round]) -> dict[str, Any]:
    """The peers' medians, the best of each kind, and how many times that one a worker of ours is at the same."""
    medians = {peer.name: statistics.median([at.peers[peer.name] for at in rounds]) for peer in PEERS}
    single = max((peer.name for peer in PEERS if not peer.is_batch), key=medians.__getitem__)
    batch = max((peer.name for peer in PEERS if peer.is_batch), key=medians.__getitem__)
    return {
        "peers": {name: round(rate) for name, rate in medians.items()},
        "bestPeer": single,
        "bestPeerRatio": round(
            statistics.median([at.worker[PLAIN.name] / at.peers[single] for at in rounds]), 2
        ),
        "bestBatchPeer": batch,
        "bestBatchPeerRatio": round(
            statistics.median([at.worker[BATCH.name] / at.peers[batch] for at in rounds]), 2
        ),
    }


async def run(settings: Settings) -> list[Round]:
    """All rounds on one server of their own; raises what makes a run invalid."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        raw = opened.enter_context(raw_client())
        environments = install_peers() if settings.peers else None
        if settings.peers:
            print(
                "peers:", ", ".join(f"{name} {version}" for name, version in versions().items()), flush=True
            )
        url = opened.enter_context(SERVERS[settings.server]())
        server = Server.connect(url)
        try:
            bench = Bench(url, server, raw, folder, environments, settings, Random(settings.seed))
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
    parser.add_argument(
        "--latency-seconds", type=float, default=6, help="seconds a rate and round (default: 6)"
    )
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave the peers out")
    parser.add_argument("--seed", type=int, default=1, help="of the events' data (default: 1)")
    return Settings(**vars(parser.parse_args(arguments)))


def main() -> int:
    """Runs the benchmark; 0, or 1 with what was missed or made it invalid on standard error."""
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
    except (
        InvalidRunError,
        WorkerFailedError,
        CompilerMissingError,
        ServerMissingError,
        TimeoutError,
    ) as error:
        print(f"bench: invalid run: {error}", file=sys.stderr)
        return 1
    figures = summary(rounds, settings)
    print(json.dumps(figures), flush=True)
    below = missed(figures)
    for text in below:
        print(f"bench: {text}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    run_command(main)
