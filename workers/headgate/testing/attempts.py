"""What was handled: each call of a handler in a pipeline under test, in the order they began."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate.handlers.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from headgate.event import Event
    from headgate.handlers import Handler


@dataclass
class Attempt:
    """One event given to a handler, at `seconds` of virtual time; `error` is what it failed with, None while it runs.

    The number of the attempt is `event.attempt`.
    """

    event: Event
    seconds: float
    error: BaseException | None = None
    is_running: bool = True
    began: float = field(default_factory=time.monotonic, repr=False)
    """Monotonic seconds of real time."""


class RecordedHandler(Wrapper):
    """A handler whose every call is noted in `attempts`; else it is the handler it wraps."""

    def __init__(self, handler: Handler, attempts: list[Attempt], seconds: Callable[[], float]) -> None:
        super().__init__(handler)
        self._attempts = attempts
        self._seconds = seconds

    async def __call__(self, slot: int, event: Event) -> Any:
        """Handles an event."""
        (attempt,) = self._begun([event])
        return await self._ended([attempt], self._wrapped(slot, event))

    async def handle_batch(self, slot: int, events: Sequence[Event]) -> Any:
        """Handles a batch; each of its events is an attempt of its own."""
        attempts = self._begun(events)
        returned = await self._ended(attempts, self._wrapped.handle_batch(slot, events))
        if isinstance(returned, list | tuple):
            for attempt, each in zip(attempts, returned, strict=False):
                attempt.error = each if isinstance(each, BaseException) else None
        return returned

    def _begun(self, events: Sequence[Event]) -> list[Attempt]:
        attempts = [Attempt(event, self._seconds()) for event in events]
        self._attempts += attempts
        return attempts

    async def _ended(self, attempts: list[Attempt], handling: Awaitable[Any]) -> Any:
        try:
            return await handling
        except BaseException as error:
            for attempt in attempts:
                attempt.error = error
            raise
        finally:
            for attempt in attempts:
                attempt.is_running = False
