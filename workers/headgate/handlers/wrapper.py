"""A handler around another: what a subclass adds to the calls, and in all else the one it wraps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.handlers.base import Handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from headgate.event import Event
    from headgate.handlers.breaker import State


class Wrapper(Handler):
    """Hands every call on; subclasses override `__call__` and `handle_batch` to do something around it."""

    def __init__(self, wrapped: Handler) -> None:
        self._wrapped = wrapped

    @property
    def paused_until(self) -> float:
        """As the wrapped handler says."""
        return self._wrapped.paused_until

    @paused_until.setter
    def paused_until(self, when: float) -> None:
        self._wrapped.paused_until = when

    @property
    def breaker(self) -> State:
        """As the wrapped handler says."""
        return self._wrapped.breaker

    async def start(self) -> None:
        """Makes the wrapped handler ready."""
        await self._wrapped.start()

    def __call__(self, slot: int, event: Event) -> Awaitable[Any]:
        """Hands an event on."""
        return self._wrapped(slot, event)

    def handle_batch(self, slot: int, events: Sequence[Event]) -> Awaitable[Any]:
        """Hands a batch on."""
        return self._wrapped.handle_batch(slot, events)

    def close(self) -> None:
        """Ends what the wrapped handler keeps running."""
        self._wrapped.close()

    async def aclose(self) -> None:
        """Ends what the wrapped handler has to end on the loop."""
        await self._wrapped.aclose()
