"""Headgate's data plane and SDK: events, streams, workers.

A handler is `async def handle(event) -> result`, or a plain function; it gets an `Event`, returns what JSON can carry
or effects that are applied exactly once, and raises to be tried again (`PermanentError`: never again).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.effects import Effect, Result, count, emit, put, result, split
from headgate.errors import PermanentError, RetryLaterError
from headgate.event import Event, Lane, NewEvent
from headgate.values import value

if TYPE_CHECKING:
    from headgate.client import Connection, connect

__all__ = [
    "Connection",
    "Effect",
    "Event",
    "Lane",
    "NewEvent",
    "PermanentError",
    "Result",
    "RetryLaterError",
    "connect",
    "count",
    "emit",
    "put",
    "result",
    "split",
    "value",
]


def __getattr__(name: str) -> Any:
    """What applications use and handlers do not: a worker's start does not pay for it."""
    if name in {"Connection", "connect"}:
        from headgate import client  # noqa: PLC0415

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
