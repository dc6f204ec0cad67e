"""What the worker knows of a handler, and how handlers fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from headgate.event import Event


class HandlerLoadError(Exception):
    """The function named in the manifest cannot be loaded; says what was looked for and where."""


class HandlerCrashedError(Exception):
    """The process a handler ran in died: a signal, an exit, or out of memory."""


class RemoteError(Exception):
    """What a handler raised in its process: the exception's type and text, as one line."""


class Handler(Protocol):
    """One event at a time in each of `concurrency` slots."""

    def __call__(self, slot: int, event: Event) -> Awaitable[Any]:
        """Handles an event; cancelling it stops the work, as far as the place it runs in allows."""

    def close(self) -> None:
        """Ends what the handler keeps running: threads, processes."""
