"""A delivery, and what became of it: the two things a worker and the settle script talk about."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headgate.event import DATA, ID, KEY, ROOT, SOURCE, TIME, TRACE, TYPE, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

RETRY_STREAM = 4  # the retry stream's number among the streams of a script's KEYS; lanes are 1 to 3
ATTEMPT, LANE = b"attempt", b"lane"


class Kind(enum.StrEnum):
    """How a delivery ends; the values are those of settle.lua."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    FILTERED = "filtered"  # not this branch's business
    BACK = "back"  # never begun: another worker's, at once and without an attempt counted
    PARK = "park"  # never begun: behind the event that its key waits for
    EXPIRED = "expired"  # never begun: a dead letter for its age, as the manifest wants it


# By name, for what is done for every event: before Python 3.12 `Kind.DONE` is a look-up through two descriptors, ten
# times a name's, and five of them were a sixth of what a worker spends on an event.
DONE, RETRY, DEAD, FILTERED, BACK, PARK, EXPIRED = (
    Kind.DONE,
    Kind.RETRY,
    Kind.DEAD,
    Kind.FILTERED,
    Kind.BACK,
    Kind.PARK,
    Kind.EXPIRED,
)


class Turn(NamedTuple):
    """How many events of the lower lanes a read begins with, before the higher ones."""

    normal: int = 0
    low: int = 0


NO_TURN = Turn()


class Delivery(msgspec.Struct, eq=False, gc=False):
    """One event given to one consumer under one lease.

    `stream` (1-4) and `entry` say where it is pending, `received` when it came (monotonic seconds); one that is
    `invalid` says why it is never handed to a handler, and so does one that `expired` in a delayed lane.
    """

    event: Event
    stream: int
    entry: bytes
    lease: str
    received: float
    invalid: str | None = None
    expired: str | None = None


class Outcome(msgspec.Struct, eq=False, gc=False):
    """What became of a delivery.

    `detail` is a result as JSON or an error's text; `delay_ms` is a retry's, and before the retry is decided on, the
    least it may be. `effects` are those of scripts/effects.lua, four values each.
    """

    delivery: Delivery
    kind: Kind
    detail: bytes = b"null"
    delay_ms: int = 0
    busy_us: int = 0
    effects: Sequence[str | bytes | int] = ()


class Settled(msgspec.Struct, frozen=True):
    """What a settle did: deliveries settled, entries the outbox got, keys of an ordered branch that wait no more."""

    count: int
    outboxed: int = 0
    unblocked: tuple[str, ...] = ()


def netstrings(fields: Sequence[bytes]) -> bytes:
    """Fields as one value: each as its length, a colon, its bytes (scripts/fields.lua)."""
    return b"".join([b"%d:%b" % (len(field), field) for field in fields])


def split_netstrings(packed: bytes) -> list[bytes]:
    """What `netstrings` packed."""
    fields: list[bytes] = []
    at = 0
    while at < len(packed):
        colon = packed.index(b":", at)
        end = colon + 1 + int(packed[at:colon])
        fields.append(packed[colon + 1 : end])
        at = end
    return fields


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
    if event.traceparent is not None:
        fields += (TRACE, event.traceparent.encode())
    if event.root is not None:
        fields += (ROOT, event.root.encode())
    return netstrings(fields)
