"""A function as the handler of a branch under test: in this process, whatever its executor, to be debugged."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from headgate.handlers import Handler
from headgate.handlers.python import LoopHandler, ThreadHandler, is_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.event import Event


class FunctionHandler(Handler):
    """An async function on the test's own loop, a plain one in threads. What it gives is awaited if it can be."""

    def __init__(self, function: Callable[[Any], Any], concurrency: int) -> None:
        self._handler: Handler = (
            LoopHandler(function) if is_async(function) else ThreadHandler(function, concurrency)
        )

    async def __call__(self, slot: int, event: Event) -> Any:
        """Calls the function with an event."""
        returned = await self._handler(slot, event)
        return await returned if inspect.isawaitable(returned) else returned

    async def handle_batch(self, slot: int, events: Sequence[Event]) -> Any:
        """Calls the function with a list of events."""
        returned = await self._handler.handle_batch(slot, events)
        return await returned if inspect.isawaitable(returned) else returned

    def close(self) -> None:
        """Forgets the threads."""
        self._handler.close()
