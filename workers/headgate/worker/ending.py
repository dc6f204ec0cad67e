"""Ending tasks for certain: a cancellation can be lost, and who waits for such a task waits for ever.

redis-py 8 loses one that meets a connection that is just being cut (seen under `make chaos-workers`); a handler may
swallow one by mistake. So it is asked again until it is heeded, or the time is up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_AGAIN_SECONDS = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]], seconds: float = 5.0) -> set[asyncio.Task[Any]]:
    """Cancels tasks, again and again for up to `seconds`, until they have ended; gives those that have not."""
    left = {task for task in tasks if not task.done()}
    deadline = asyncio.get_running_loop().time() + seconds
    while left and asyncio.get_running_loop().time() < deadline:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
    return left
