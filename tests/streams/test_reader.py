"""The reader: plain reads after the script's, and what they must not pass by."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from headgate.contract import SharesContract
from headgate.event import Lane, NewEvent
from headgate.streams import Gate, Server, set_gate
from headgate.streams.waiter import Waiter
from headgate.worker import reader as reader_module
from headgate.worker.intake import Intake
from headgate.worker.reader import BATCH, Reader
from streams.desk import Desk, desk, eventually, retried, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.streams.outcome import Delivery

ROOM = 2000
LONGER_THAN_A_RUSH_SECONDS = 0.06
LOW_WAITS = Gate(delayed=frozenset({Lane.LOW}), max_delay_seconds=900)


class Reading:
    """A reader with room for ROOM events, and what it read."""

    def __init__(self, canal: Desk) -> None:
        self.canal = canal
        self.read: list[Delivery] = []

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        self.consumer = await self.canal.consumer()
        self.waiter = Waiter(self.canal.server, [self.consumer], "a")
        yield Reader([self.consumer], self.waiter, Intake(ROOM, 1), self.read.extend, SharesContract())
        self.waiter.close()

    @property
    def data(self) -> list:
        return [delivery.event.data for delivery in self.read]


async def test_a_backlog_is_read_once_each_and_in_order(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(5 * BATCH))
        reading = Reading(canal)
        async with reading.reader() as reader:
            while len(reading.read) < 5 * BATCH:
                await reader.turn()
    assert reading.data == list(range(5 * BATCH))


async def test_urgent_events_overtake_a_backlog_at_the_next_read(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(5 * BATCH))
        reading = Reading(canal)
        async with reading.reader() as reader:
            await reader.turn()
            assert len(reading.read) == BATCH
            await canal.publish(NewEvent(data="urgent", lane=Lane.HIGH))
            await reader.turn()
    assert reading.data[BATCH] == "urgent"


async def test_a_backlog_in_a_low_lane_never_overtakes_what_is_above_it(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(BATCH + 10), *(NewEvent(data="low", lane=Lane.LOW) for _ in range(BATCH)))
        reading = Reading(canal)
        async with reading.reader() as reader:
            while len(reading.read) < 2 * BATCH + 10:
                await reader.turn()
    assert reading.data == [*range(BATCH + 10), *["low"] * BATCH]


async def test_a_gate_that_closes_holds_its_lane_within_the_time_of_a_rush(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*(NewEvent(data="low", lane=Lane.LOW) for _ in range(5 * BATCH)))
        reading = Reading(canal)
        async with reading.reader() as reader:
            await reader.turn()
            await set_gate(server, canal.keys, "a", LOW_WAITS, 60)
            await asyncio.sleep(LONGER_THAN_A_RUSH_SECONDS)
            before = len(reading.read)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.turn(), 0.3)
    assert len(reading.read) == before


async def test_a_retry_that_falls_due_ends_a_rush(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(reader_module, "_SCRIPT_EVERY_SECONDS", 60.0)
    async with desk(server) as canal:
        await canal.publish("again")
        consumer = await canal.consumer("w0.x")
        failed = await take(consumer)
        await canal.publish(*range(5 * BATCH))
        reading = Reading(canal)
        async with reading.reader() as reader:
            # Due in so long that a busy machine, too, has read twice by then.
            await consumer.settle([retried(each, 2000) for each in failed])
            await reader.turn()
            await reader.turn()
            assert "again" not in reading.data
            before = len(reading.data)
            await asyncio.sleep(2)
            await reader.turn()
    assert reading.data[before] == "again"


async def test_a_plain_read_takes_retries_first_and_no_lane_below_the_one_it_is_given(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("again")
        consumer = await canal.consumer()
        await consumer.settle([retried(each) for each in await take(consumer)])
        await canal.publish(
            *(NewEvent(data=lane.value, lane=lane) for lane in (Lane.LOW, Lane.NORMAL, Lane.HIGH))
        )

        async def due() -> list[Delivery]:
            return await take(consumer, 1)

        assert [each.event.data for each in await eventually(due, "the retry")] == ["again"]
        assert [each.event.data for each in await consumer.read_plain(2, 10)] == ["high", "normal"]
        assert [each.event.data for each in await consumer.read_plain(3, 10)] == ["low"]
        assert await consumer.read_plain(4, 10) == []
