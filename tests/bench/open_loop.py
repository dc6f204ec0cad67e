"""Publishes at a fixed rate whatever the workers do, as a process of its own: `python -m bench.open_loop`.

Every event carries the time it was due, not the time it was sent, so a publisher that falls behind shows as
latency instead of hiding it. Prints one JSON object: how many were published, in how many seconds, and how
late the worst one was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from bench.workload import published_at
from headgate.streams import PipelineKeys, Publisher, Server


async def publish(url: str, keys: PipelineKeys, rate: int, seconds: float) -> dict[str, float]:
    """Publishes `rate` events a second for `seconds`, each when it is due or, when late, with the next."""
    server = Server.connect(url)
    try:
        await server.ping()
        publisher = Publisher(server, keys)
        total, sent, worst = int(rate * seconds), 0, 0
        start = time.time_ns() + 100_000_000
        while sent < total:
            # The event loop's timers are a millisecond coarse, and nothing else runs in this process.
            time.sleep(max(0, _due(start, rate, sent) - time.time_ns()) / 1e9)  # noqa: ASYNC251
            now = time.time_ns()
            worst = max(worst, now - _due(start, rate, sent))
            last = min(total, (now - start) * rate // 1_000_000_000 + 1)
            await publisher.publish([published_at(_due(start, rate, number)) for number in range(sent, last)])
            sent = last
        took = (time.time_ns() - start) / 1e9
    finally:
        await server.aclose()
    return {"published": sent, "seconds": took, "worstLateMs": worst / 1e6}


def _due(start: int, rate: int, number: int) -> int:
    return start + number * 1_000_000_000 // rate


def main() -> None:
    """Reads the command line and publishes."""
    parser = argparse.ArgumentParser(description="publish at a fixed rate")
    parser.add_argument("url")
    parser.add_argument("namespace")
    parser.add_argument("pipeline")
    parser.add_argument("--rate", type=int, required=True, help="events a second")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    keys = PipelineKeys(options.namespace, options.pipeline)
    print(json.dumps(asyncio.run(publish(options.url, keys, options.rate, options.seconds))), flush=True)


if __name__ == "__main__":
    main()
