"""What lines of the log are about, without a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.event import Event, Lane
from headgate.logs import about, handled_event
from headgate.streams.outcome import Delivery, Kind, Outcome, Settled
from headgate.worker.settler import Settler

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_line_names_all_that_tells_an_attempt_from_another() -> None:
    event = Event(id="i", body=b"1", lane=Lane.HIGH, partition=3, attempt=2)
    said = {"event_id": "i", "attempt": 2, "partition": 3, "lane": "high"}
    assert about(event) == said
    event.traceparent = TRACED
    assert about(event) == said | {"traceparent": TRACED}


class Consumer:
    """Notes which event a settle is about."""

    partition, lease = 0, "w.x"

    def __init__(self) -> None:
        self.seen: list[Event | None] = []

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        self.seen.append(handled_event.get())
        return Settled(len(outcomes))


async def test_settling_is_about_no_event_though_a_slot_asks_for_it_while_it_handles_one() -> None:
    consumer: Any = Consumer()
    settler = Settler(consumer, lambda *_: None, lambda _: None)
    event = Event(id="i", body=b"1")
    token = handled_event.set(event)
    try:
        settler.add(Outcome(Delivery(event, 2, b"1-0", "w.x", 0.0), Kind.DONE))
        await settler.drain()
    finally:
        handled_event.reset(token)
    assert consumer.seen == [None]
