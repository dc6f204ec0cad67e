"""SAQ: `saq`, one process; a hundred jobs side by side, finished jobs not kept."""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue

from bench.peers.shared import AT_ONCE, DATA, URL, handled

queue = Queue.from_url(URL)


async def handle(context: dict[str, Any], *, data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


settings = {"queue": queue, "functions": [handle], "concurrency": 100}


async def _enqueue(events: int) -> None:
    await queue.connect()
    for start in range(0, events, AT_ONCE):
        await asyncio.gather(
            *(queue.enqueue("handle", data=DATA, ttl=-1) for _ in range(min(AT_ONCE, events - start)))
        )
    await queue.disconnect()


def enqueue(events: int) -> None:
    """Fills the queue."""
    asyncio.run(_enqueue(events))
