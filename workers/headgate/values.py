"""What a handler may read of its own pipeline: the values that handlers put."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Read = Callable[[str], Awaitable[Any]]

_read: ContextVar[Read] = ContextVar("headgate.values")


async def value(key: str) -> Any:
    """What a handler of this pipeline put under `key`, or None; for async handlers.

    In a branch with `ordering: Key` that alone puts values under its events' keys, the value of an event's key is what
    the event before it left, and nobody changes it until this one is settled: read it, decide, put it again.
    Anywhere else it may be changed meanwhile. Raises RuntimeError outside a worker, ServerUnavailableError.
    """
    read = _read.get(None)
    if read is None:
        raise RuntimeError(
            f"value({key!r}): only an async handler has a pipeline of its own; elsewhere connect(...) has values"
        )
    return await read(key)


def read_values_by(read: Read) -> None:
    """Says how `value` reads, for the tasks that are made from here on: of a worker, or of a test's handler."""
    _read.set(read)
