"""Headgate's data plane and SDK: events, streams, workers.

A handler is `async def handle(event) -> result`, or a plain function; it gets an `Event`, returns what JSON can carry
or effects that are applied exactly once, and raises to be tried again (`PermanentError`: never again).
"""

from headgate.effects import count, emit, put, result, split
from headgate.errors import PermanentError, RetryLaterError
from headgate.event import Event, Lane, NewEvent

__all__ = [
    "Event",
    "Lane",
    "NewEvent",
    "PermanentError",
    "RetryLaterError",
    "count",
    "emit",
    "put",
    "result",
    "split",
]
