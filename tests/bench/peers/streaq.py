"""streaQ: `streaq run`, one process; a hundred tasks side by side, results not kept."""

from __future__ import annotations

import asyncio

from streaq import Worker

from bench.peers.shared import AT_ONCE, DATA, URL, handled

worker = Worker(redis_url=URL, concurrency=100, prefetch=100)


@worker.task(ttl=0)
async def handle(data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


async def _enqueue(events: int) -> None:
    async with worker:
        for start in range(0, events, AT_ONCE):
            await worker.enqueue_many([handle.enqueue(DATA) for _ in range(min(AT_ONCE, events - start))])


def enqueue(events: int) -> None:
    """Fills the queue."""
    asyncio.run(_enqueue(events))
