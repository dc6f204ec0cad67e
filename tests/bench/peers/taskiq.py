"""taskiq-redis: `taskiq worker`, one process; streams with acknowledgement, read in hundreds; no result backend."""

from __future__ import annotations

import asyncio

from taskiq_redis import RedisStreamBroker

from bench.peers.shared import AT_ONCE, DATA, URL, handled

broker = RedisStreamBroker(URL, xread_count=100)


@broker.task
async def handle(data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


async def _enqueue(events: int) -> None:
    await broker.startup()
    for start in range(0, events, AT_ONCE):
        await asyncio.gather(*(handle.kiq(DATA) for _ in range(min(AT_ONCE, events - start))))
    await broker.shutdown()


def enqueue(events: int) -> None:
    """Fills the stream."""
    asyncio.run(_enqueue(events))
