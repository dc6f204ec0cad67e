"""A thousand producers at once, each with a name and a sequence of lines and gauge values of its own.

    python examples/log-dashboard/load.py --redis-url redis://localhost:6379 --producers 1000 --events 20

The same seed and end make the same events with the same ids. Prints one line of JSON: what was published, how fast.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from typing import TYPE_CHECKING

from headgate import Lane, NewEvent, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate import Connection

SERVICES = ("api", "checkout", "payments", "search", "shipping", "web")
LEVELS = {"debug": 40, "info": 45, "warning": 10, "error": 5}  # of a hundred lines
LANES = {"debug": Lane.LOW, "error": Lane.HIGH}  # in a flood, errors are on the dashboard first
SPAN_MS = 8 * 60_000
GAUGE_EVERY = 5
FLUSH = 10  # lines that a producer hands over at once, as agents do


def producer_events(seed: str, number: int, events: int, end_ms: int) -> list[NewEvent]:
    """The sequence of one producer: `events` of them, written in the eight minutes before `end_ms` (since 1970)."""
    dice = random.Random(f"{seed}/{number}")
    source, service = f"producer-{number:04}", dice.choice(SERVICES)
    made = []
    for place, ago_ms in enumerate(sorted(dice.choices(range(1, SPAN_MS), k=events), reverse=True), 1):
        data: dict[str, object] = {"time": end_ms - ago_ms}
        # A producer counts its lines from its own start; with that start they are ids: sent twice, taken once.
        event_id = f"{source}/{end_ms}/{seed}/{place}"
        if place % GAUGE_EVERY:
            level = dice.choices(list(LEVELS), list(LEVELS.values()))[0]
            data |= {"service": service, "level": level, "message": f"line {place} of {source}"}
            lane = LANES.get(level, Lane.NORMAL)
            made.append(NewEvent(id=event_id, source=source, data=data, lane=lane))
        else:
            data["value"] = dice.randrange(1000)
            made.append(NewEvent(id=event_id, source=source, data=data, key=f"{source}/queue_length"))
    return made


def sample(count: int) -> list[NewEvent]:
    """Sample events: the first `count` of as many producers as that takes, twenty of each."""
    end_ms = int(time.time() * 1000)
    return [
        event for number in range(-(-count // 20)) for event in producer_events("sample", number, 20, end_ms)
    ][:count]


async def produce(
    pipeline: Connection, events: Sequence[NewEvent], turns: asyncio.Semaphore, pause_seconds: float
) -> int:
    """One producer: hands its events over in order, a few at a time; how many were new to the pipeline."""
    new = 0
    for start in range(0, len(events), FLUSH):
        await asyncio.sleep(random.uniform(0, 2 * pause_seconds))
        async with turns:
            receipts = await pipeline.publish(events[start : start + FLUSH])
        new += sum(not receipt.duplicate for receipt in receipts)
    return new


async def load(asked: argparse.Namespace) -> dict[str, int | float | str]:
    """All producers at once; what they published."""
    everything = [
        producer_events(asked.seed, number, asked.events, asked.end_ms) for number in range(asked.producers)
    ]
    turns = asyncio.Semaphore(asked.connections)
    pause_seconds = asked.seconds / max(1, -(-asked.events // FLUSH))
    async with connect("log-dashboard", namespace=asked.namespace, url=asked.redis_url) as pipeline:
        began = time.monotonic()
        new = await asyncio.gather(
            *(produce(pipeline, events, turns, pause_seconds) for events in everything)
        )
        seconds = time.monotonic() - began
    return {
        "producers": asked.producers,
        "published": sum(new),
        "duplicates": sum(map(len, everything)) - sum(new),
        "seconds": round(seconds, 2),
        "eventsPerSecond": round(sum(map(len, everything)) / seconds),
        "seed": asked.seed,
        "endMs": asked.end_ms,
    }


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Publishes the lines and gauges of very many producers at once."
    )
    parser.add_argument(
        "--redis-url",
        default=os.environ.get("HEADGATE_REDIS_URL"),
        help="server of the pipeline; HEADGATE_REDIS_URL",
    )
    parser.add_argument("--namespace", default="default", help="of the pipeline; default")
    parser.add_argument(
        "--producers", type=int, default=1000, help="that publish at the same time; %(default)s"
    )
    parser.add_argument("--events", type=int, default=20, help="of each producer; %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0,
        help="over which a producer's events are spread; 0: as fast as it goes",
    )
    parser.add_argument("--connections", type=int, default=8, help="that all producers share; %(default)s")
    parser.add_argument("--seed", default="1", help="of everything that is random in the events; %(default)s")
    parser.add_argument(
        "--end-ms",
        type=int,
        default=int(time.time() * 1000),
        help="when the last lines were written, ms since 1970; now",
    )
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(arguments()))))
