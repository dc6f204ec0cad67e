"""arq: `arq`, one process; a hundred jobs side by side, results not kept."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from bench.peers.shared import AT_ONCE, DATA, URL, handled

_SERVER = RedisSettings.from_dsn(URL)


async def handle(context: dict[str, Any], data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


class WorkerSettings:
    """What the `arq` command reads."""

    functions: ClassVar = [handle]
    redis_settings = _SERVER
    max_jobs = 100
    keep_result = 0
    poll_delay = 0.01


async def _enqueue(events: int) -> None:
    pool = await create_pool(_SERVER)
    for start in range(0, events, AT_ONCE):
        await asyncio.gather(*(pool.enqueue_job("handle", DATA) for _ in range(min(AT_ONCE, events - start))))
    await pool.aclose()


def enqueue(events: int) -> None:
    """Fills the queue."""
    asyncio.run(_enqueue(events))
