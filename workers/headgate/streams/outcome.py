"""A delivery, and what became of it: the two things a worker and the settle script talk about."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from headgate.event import DATA, ID, KEY, SOURCE, TIME, TYPE, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

RETRY_STREAM = 4  # the retry stream's number among the streams of a script's KEYS; lanes are 1 to 3
ATTEMPT, LANE = b"attempt", b"lane"


class Kind(enum.StrEnum):
    """How a delivery ends; the values are those of settle.lua."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    BACK = "back"  # never begun: another worker's, at once and without an attempt counted


class Delivery(msgspec.Struct, eq=False, gc=False):
    """One event given to one consumer under one lease.

    `stream` (1-4) and `entry` say where it is pending, `received` when it came (monotonic seconds); one that is
    `invalid` says why it is never handed to a handler.
    """

    event: Event
    stream: int
    entry: bytes
    lease: str
    received: float
    invalid: str | None = None


class Outcome(msgspec.Struct, eq=False, gc=False):
    """What became of a delivery. `detail` is a result as JSON or an error's text; `delay_ms` is a retry's."""

    delivery: Delivery
    kind: Kind
    detail: bytes = b"null"
    delay_ms: int = 0
    busy_us: int = 0


def pack_fields(delivery: Delivery, attempt: int, extra: Sequence[bytes] = ()) -> bytes:
    """An event's fields as one value (scripts/fields.lua), for a script to XADD: a retry's or dead letter's entry."""
    event = delivery.event
    fields = [
        DATA,
        event.body,
        ID,
        event.id.encode(),
        TIME,
        b"%d" % event.published_ms,
        LANE,
        event.lane.value.encode(),
    ]
    fields += (ATTEMPT, b"%d" % attempt, TYPE, event.type.encode(), SOURCE, event.source.encode(), *extra)
    if event.key is not None:
        fields += (KEY, event.key.encode())
    return b"".join(b"%d:%b" % (len(field), field) for field in fields)
