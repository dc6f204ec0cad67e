"""A delivery, and what became of it: the two things a worker and the settle script talk about."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

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


class Delivery:
    """One event given to one consumer under one lease: `stream` 1-4 and `entry` are where it is pending."""

    __slots__ = ("entry", "event", "invalid", "lease", "received", "stream")

    def __init__(
        self,
        event: Event,
        stream: int,
        entry: bytes,
        lease: str,
        received: float,
        *,
        invalid: str | None = None,
    ) -> None:
        self.event = event
        self.stream = stream
        self.entry = entry
        self.lease = lease
        self.received = received
        self.invalid = invalid


class Outcome:
    """What became of a delivery. `detail` is a result as JSON, an error's text; `delay_ms` is a retry's."""

    __slots__ = ("busy_us", "delay_ms", "delivery", "detail", "kind")

    def __init__(
        self, delivery: Delivery, kind: Kind, detail: bytes = b"null", delay_ms: int = 0, busy_us: int = 0
    ) -> None:
        self.delivery = delivery
        self.kind = kind
        self.detail = detail
        self.delay_ms = delay_ms
        self.busy_us = busy_us


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
