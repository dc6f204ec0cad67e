"""Headgate's data plane and SDK: events, streams, workers.

A handler is `async def handle(event) -> result`, or a plain function; it gets an `Event`, returns what JSON can carry,
and raises to be tried again (`PermanentError`: never again).
"""

from headgate.errors import PermanentError, RetryLaterError
from headgate.event import Event, Lane, NewEvent

__all__ = ["Event", "Lane", "NewEvent", "PermanentError", "RetryLaterError"]
