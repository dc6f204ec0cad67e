"""What publishing gives: where events went, or why they did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.event import InvalidEventError
from headgate.streams.errors import StreamsError

if TYPE_CHECKING:
    from headgate.streams.durability import Replicated


class Receipt(msgspec.Struct, frozen=True):
    """Where an event went. A duplicate names the entry of the first.

    The first may be the same publication's: one whose answer is lost on the way is sent again.
    """

    id: str
    partition: int
    entry: str
    duplicate: bool


class RefusedEventError(InvalidEventError):
    """An event to publish does not conform to the source's schema: says which, where and why.

    Nothing of what was to be published with it was. `place` is its place among them, `reason` what is wrong.
    """

    def __init__(self, place: int, event_id: str | None, reason: str) -> None:
        super().__init__(f"event {place}{f' (id {event_id!r})' if event_id else ''}: {reason}")
        self.place = place
        self.reason = reason


class NotReplicatedError(StreamsError):
    """Published, but fewer replicas than wanted had it in time: a failover now may lose it.

    Publishing the same ids again is right: what is there adds nothing, and is waited for. `receipts` has the ids.
    """

    def __init__(self, receipts: list[Receipt], acknowledged: int, wanted: Replicated) -> None:
        super().__init__(
            f"{acknowledged} of {wanted.replicas} replicas have what was published, after"
            f" {wanted.timeout_seconds:g} s: see whether they are connected, and publish the same ids again"
        )
        self.receipts = receipts
        self.acknowledged = acknowledged
