"""Effects: what a handler wants done in Redis together with the settling of its event, exactly once.

They are applied in the script that acks the event: either both happen or neither, however often the handler ran. An
effect on another partition or pipeline goes through an outbox and is relayed once, a moment later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import NewEvent  # noqa: TC001 - msgspec reads the annotations when a struct is decoded

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_EFFECTS = 10_000
_MOST_COUNTED = 2**53


class Count(msgspec.Struct, frozen=True):
    """Adds `n` to a counter of the pipeline."""

    name: str
    n: int = 1


class Put(msgspec.Struct, frozen=True):
    """Sets a value of the pipeline; None removes it."""

    key: str
    value: Any


class Emit(msgspec.Struct, frozen=True):
    """Publishes an event into a pipeline."""

    event: NewEvent
    to: str | None = None


class Split(msgspec.Struct, frozen=True):
    """Splits the event into parts that the join waits for."""

    events: tuple[NewEvent, ...]


Effect = Count | Put | Emit | Split
_PLAIN = frozenset({dict, str, int, float, bool})


class Result(msgspec.Struct, frozen=True):
    """A handler's result for the join, and its effects."""

    value: Any = None
    effects: tuple[Effect, ...] = ()

    @staticmethod
    def of(returned: Any) -> Result:
        """What a handler returned: a value, a Result, an effect, or a list or tuple of nothing but effects."""
        # Most results are plain: the looks below would cost each of them two microseconds.
        if type(returned) in _PLAIN:
            return Result(returned)
        if isinstance(returned, Result):
            return returned
        if isinstance(returned, Effect):
            return Result(None, (returned,))
        if (
            isinstance(returned, list | tuple)
            and returned
            and all(isinstance(each, Effect) for each in returned)
        ):
            return Result(None, tuple(returned))
        return Result(returned)


def result(value: Any, *effects: Effect) -> Result:
    """What a handler returns to give the join a value and to have effects, for example `result(7, count("texts"))`."""
    return Result(value, effects)


def count(name: str, n: int = 1) -> Count:
    """Adds `n` (may be negative) to the counter `name`; `headgate counts` and `read_counts` tell the sum.

    Raises ValueError for a name that is empty or an `n` beyond 2^53.
    """
    if not name:
        raise ValueError("count: a counter needs a name")
    if isinstance(n, bool) or not isinstance(n, int) or abs(n) > _MOST_COUNTED:
        raise ValueError(f"count({name!r}): {n!r} is no whole number of at most 2^53")
    return Count(name, n)


def put(key: str, value: Any) -> Put:
    """Sets `key` to a value that JSON can carry, None removes it; the last one settled wins. Raises ValueError."""
    if not key:
        raise ValueError("put: a value needs a key")
    return Put(key, value)


def emit(event: NewEvent, to: str | None = None) -> Emit:
    """Publishes `event` once: into the own pipeline, or into `to`, a name or namespace/name on the same server.

    Without an id the event gets one that is the same in every attempt, so that its own handlers can be idempotent too.
    """
    return Emit(event, to)


def split(events: Iterable[NewEvent]) -> Split:
    """Splits the event into parts: every branch gets them, and the event's join waits for their outcomes too.

    Parts may be split again. They stay on the partition of their root. Of a branch that has no part in the join, the
    parts are events of their own, each with a record of its own.
    """
    return Split(tuple(events))
