"""Entries of a branch's streams, as the server gives them, turned into deliveries."""

from __future__ import annotations

from typing import Any

from headgate.event import Event, InvalidEventError, Lane, from_fields
from headgate.streams.outcome import ATTEMPT, LANE, RETRY_STREAM, Delivery

_LANES = tuple(Lane)
_LANE_OF = {lane.value.encode(): lane for lane in Lane}


class Decoder:
    """Of one partition, whose number events are told."""

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def __call__(
        self,
        stream: int,
        entries: Any,
        lease: str,
        received: float,
        into: list[Delivery],
        *,
        deliveries_before: int = 0,
    ) -> None:
        """Turns a stream's raw entries into deliveries; what is no event becomes a delivery marked invalid.

        `lease` is the one they were asked for under, which may be another by the time the reply is here.
        """
        is_retry = stream == RETRY_STREAM
        lane_of_all = Lane.NORMAL if is_retry else _LANES[stream - 1]
        for entry, fields in entries:
            invalid = None
            lane, attempt = lane_of_all, 1 + deliveries_before
            try:
                if is_retry:
                    found = dict(zip(fields[::2], fields[1::2], strict=True))
                    lane = _LANE_OF[found[LANE]]
                    attempt = int(found[ATTEMPT]) + deliveries_before
                event = from_fields(entry, fields, lane, self._partition, attempt)
            except (InvalidEventError, KeyError, ValueError, TypeError) as error:
                invalid = f"not an event: {error}"
                event = Event(
                    id=f"{lane.value}-{entry.decode()}",
                    body=bytes(dict(zip(fields[::2], fields[1::2], strict=False)).get(b"data", b""))
                    if fields
                    else b"",
                    lane=lane,
                    partition=self._partition,
                    published_ms=int(entry.split(b"-")[0]),
                    attempt=attempt,
                )
            into.append(Delivery(event, stream, entry, lease, received, invalid=invalid))
