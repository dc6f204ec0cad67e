"""What a handler raised, or what kept an event from every handler, as the event's outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import PermanentError, RetryLaterError, TargetGoneError
from headgate.event import InvalidEventError
from headgate.handlers.base import RemoteError
from headgate.streams.outcome import Kind, Outcome

if TYPE_CHECKING:
    from headgate.streams.outcome import Delivery


def failure(delivery: Delivery, error: BaseException) -> Outcome:
    """The outcome: another attempt, none (`PermanentError`), or back to wait for a target that is gone."""
    if isinstance(error, PermanentError | InvalidEventError):
        return Outcome(delivery, Kind.DEAD, _text(error) or b"PermanentError")
    if isinstance(error, TargetGoneError):
        return Outcome(delivery, Kind.BACK, _text(error) or b"TargetGoneError")
    least_ms = int(error.seconds * 1000) if isinstance(error, RetryLaterError) else 0
    return Outcome(delivery, Kind.RETRY, _describe(error), delay_ms=max(0, least_ms))


def refused(delivery: Delivery) -> Outcome:
    """The outcome of one that is `invalid`: no handler is given it, here or anywhere."""
    return Outcome(delivery, Kind.DEAD, (delivery.invalid or "").encode(errors="backslashreplace"))


def unbegun(delivery: Delivery, kind: Kind) -> Outcome:
    """The outcome of one that no handler was given: `kind`, which gives it out again (BACK or PARK), when it may be.

    Given out again, one that is `invalid` would look like any other event.
    """
    return Outcome(delivery, kind) if delivery.invalid is None else refused(delivery)


def _text(error: BaseException) -> bytes:
    """What an exception says, whatever it says it in."""
    try:
        return str(error).encode(errors="backslashreplace")
    except Exception:  # noqa: BLE001 - its __str__ is the handler's code
        return b""


def _describe(error: BaseException) -> bytes:
    if isinstance(error, RemoteError):
        return _text(error)
    name, said = type(error).__name__.encode(errors="backslashreplace"), _text(error)
    return name + b": " + said if said else name
