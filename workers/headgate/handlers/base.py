"""What the worker knows of a handler, and how handlers fail."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from headgate.handlers.breaker import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from headgate.event import Event


class HandlerLoadError(Exception):
    """The function named in the manifest cannot be loaded; says what was looked for and where."""


class HandlerCrashedError(Exception):
    """The process a handler ran in died: a signal, an exit, or out of memory."""


class RemoteError(Exception):
    """What a handler raised in its process: the exception's type and text, as one line."""


class Handler(ABC):
    """Handles events in each of `concurrency` slots: one at a time, or a batch where the branch wants batches.

    `paused_until` (monotonic seconds) is when the next event may be begun: what it hands events to asked for a pause.
    Besides the errors of a handler's own, `TargetGoneError` says that no event will ever be taken.
    """

    paused_until: float = 0.0

    @property
    def breaker(self) -> State:
        """The state of the circuit breaker before what it hands events to; closed where there is none."""
        return State.CLOSED

    async def start(self) -> None:  # noqa: B027 - most handlers have nothing to do here
        """Makes ready, before the first event is read; may wait for what events are handed to."""

    @abstractmethod
    def __call__(self, slot: int, event: Event) -> Awaitable[Any]:
        """Handles an event; cancelling it stops the work, as far as the place it runs in allows."""

    @abstractmethod
    def handle_batch(self, slot: int, events: Sequence[Event]) -> Awaitable[Any]:
        """Handles a batch: None when all are done, or a list of each event's result or the exception it failed with."""

    def close(self) -> None:  # noqa: B027 - most handlers have nothing to do here
        """Ends what the handler keeps running: threads, processes."""

    async def aclose(self) -> None:  # noqa: B027 - most handlers have nothing to do here
        """Ends what has to be ended on the worker's loop: connections."""
