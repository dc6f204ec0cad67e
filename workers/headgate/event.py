"""The event and its wire form: the fields of one stream entry.

The only field that must be there is `data`; everything else has a meaning when absent, so that any Redis client may
XADD by hand. Names are those of CloudEvents where it has one (id, type, source, time), and `key` for ordering.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.tracing import read_traceparent, valid_traceparent

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA, ID, TYPE, SOURCE, KEY, TIME = b"data", b"id", b"type", b"source", b"key", b"time"
TRACE, ROOT = b"traceparent", b"root"
_TIME_DIGITS = 15  # milliseconds since 1970 have 13 until the year 2286; what has more is no time
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


class Lane(enum.StrEnum):
    """The priority an event was published with; members are in the order lanes are read."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


LANE_NUMBER = {lane: number for number, lane in enumerate(Lane, 1)}
"""A lane's place among the streams of a script's KEYS."""


class InvalidEventError(Exception):
    """An entry of a stream is no event: says which field and why; such an entry is dead-lettered, never retried."""


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event to publish. `data` is anything JSON can carry; without an `id` each publish is an event of its own.

    With an `id`, publishing again within the dedupe window changes nothing. Equal keys share a partition.
    `traceparent` is a W3C Trace Context header; without one, the publisher's current span's goes along.
    """

    data: Any
    id: str | None = None
    type: str = "event"
    source: str = ""
    key: str | None = None
    lane: Lane = Lane.NORMAL
    traceparent: str | None = None


class Event(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """An event as a handler gets it.

    `body` are the bytes of the `data` field, `published_ms` milliseconds since the epoch by the publisher's clock,
    `attempt` counts from 1 and grows with retries and with deliveries whose worker died. `root` is the id of the event
    that this one was split from, at first hand or at last (None: it was not split from any). `fencing_token` grows each
    time a partition of an ordered branch changes hands (0 elsewhere): a store that refuses older tokens is safe from
    a worker that was thought dead.
    """

    id: str
    body: bytes
    type: str = "event"
    source: str = ""
    key: str | None = None
    lane: Lane = Lane.NORMAL
    partition: int = 0
    published_ms: int = 0
    attempt: int = 1
    traceparent: str | None = None
    root: str | None = None
    fencing_token: int = 0
    _decoded: Any = msgspec.UNSET

    @property
    def data(self) -> Any:
        """The body, decoded from JSON on first use; raises InvalidEventError when it is not JSON."""
        if self._decoded is msgspec.UNSET:
            try:
                self._decoded = _DECODER.decode(self.body)
            except (ValueError, RecursionError) as error:
                raise InvalidEventError(f"data: {self.body[:80]!r} is not JSON ({error})") from error
        return self._decoded

    @property
    def idempotency_key(self) -> str:
        """Stable over attempts and redeliveries: hand it to side effects outside Redis."""
        return f"{self.partition}/{self.id}"

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, type={self.type!r}, lane={self.lane.value!r}, attempt={self.attempt})"


def encode_data(data: Any) -> bytes:
    """JSON bytes of an event's data or a handler's result; raises TypeError for what JSON cannot carry."""
    return _ENCODER.encode(data)


def to_fields(event: NewEvent, event_id: str, time_ms: int, traceparent: str | None = None) -> list[bytes]:
    """An event's stream entry as a flat list of field names and values; defaults are left out.

    `traceparent` is for an event that has none of its own.
    """
    fields = [DATA, encode_data(event.data), ID, event_id.encode(), TIME, b"%d" % time_ms]
    if event.type != "event":
        fields += (TYPE, event.type.encode())
    if event.source:
        fields += (SOURCE, event.source.encode())
    if event.key is not None:
        fields += (KEY, event.key.encode())
    if event.traceparent is not None:
        traceparent = valid_traceparent(event.traceparent) or traceparent
    if traceparent is not None:
        fields += (TRACE, traceparent.encode())
    return fields


def from_fields(
    entry_id: bytes,
    fields: Sequence[bytes],
    lane: Lane,
    partition: int,
    attempt: int = 1,
) -> Event:
    """The event of a stream entry; raises InvalidEventError when `data` is missing or another field unreadable.

    An entry without an id takes its stream entry id; one without a time takes the milliseconds of that id.
    """
    try:
        # What our own publisher writes, in its order, costs a third of a dictionary an event.
        count = len(fields)
        if (
            (count == 6 or (count == 8 and fields[6] == KEY))
            and fields[0] == DATA
            and fields[2] == ID
            and fields[4] == TIME
            and fields[3]
            and len(fields[5]) < _TIME_DIGITS
        ):
            return Event(
                id=fields[3].decode(),
                body=fields[1],
                key=fields[7].decode() if count == 8 else None,
                lane=lane,
                partition=partition,
                published_ms=int(fields[5]),
                attempt=attempt,
            )
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        body = found.get(DATA)
        if body is None:
            raise ValueError(f"data: the entry has no such field (it has {sorted(found)[:8]!r}); add it")  # noqa: TRY301
        key = found.get(KEY)
        published_ms = int(found[TIME]) if TIME in found else int(entry_id.split(b"-")[0])
        if TIME in found and not 0 <= published_ms < 10**_TIME_DIGITS:
            raise ValueError(f"time: {found[TIME][:40]!r} is not in ms since 1970")  # noqa: TRY301
        return Event(
            id=found[ID].decode() if found.get(ID) else f"{lane.value}-{entry_id.decode()}",
            body=body,
            type=found[TYPE].decode() if TYPE in found else "event",
            source=found[SOURCE].decode() if SOURCE in found else "",
            key=None if key is None else key.decode(),
            lane=lane,
            partition=partition,
            published_ms=published_ms,
            attempt=attempt,
            traceparent=read_traceparent(found.get(TRACE)),
            root=found[ROOT].decode() if found.get(ROOT) else None,
        )
    except ValueError as error:
        raise InvalidEventError(f"a field of the entry cannot be read: {error}") from error
