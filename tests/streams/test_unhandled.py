"""What no handler may be given stays so when its worker ends, or its key waits: a dead letter that says why."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import Ordering
from headgate.event import NewEvent
from headgate.handlers.python import LoopHandler
from headgate.streams import Server, read_dead_letters
from headgate.streams.owner import PartitionOwner, Wish
from headgate.worker.worker import Worker
from streams.desk import Desk, desk, retried, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.event import Event
    from headgate.streams.outcome import Delivery

SPENT = 40  # deliveries: more than a branch allows


async def nothing(_: Event) -> None:
    raise AssertionError("no slot runs here")


@contextlib.asynccontextmanager
async def idle(canal: Desk, **settings: Any) -> AsyncIterator[Worker]:
    """A worker that has its lease, and whose tasks the test is."""
    worker = Worker(canal.server, canal.contract(**settings), LoopHandler(nothing), "w1")
    await worker._enlist()
    try:
        yield worker
    finally:
        worker._wires.close()
        await asyncio.sleep(0.01)


async def deliver_often(canal: Desk, delivery: Delivery, consumer: str) -> None:
    """As after that many deaths of workers that held it."""
    lane = canal.keys.partition(0).lane(delivery.event.lane)
    await canal.command(lane, "XCLAIM", lane, "a", consumer, 0, delivery.entry, "RETRYCOUNT", SPENT)


async def letters(canal: Desk) -> dict[str, str]:
    """The errors of the dead letters of a branch, by the event's id."""
    return {letter.id: letter.error for letter in await read_dead_letters(canal.server, canal.keys, "a")}


async def test_what_is_no_event_is_a_dead_letter_and_not_handed_back_as_one(server: Server) -> None:
    async with desk(server) as canal, idle(canal) as worker:
        await canal.xadd({"type": "without data", "id": "odd"})
        await canal.publish(NewEvent(id="good", data=1))
        worker._flow.accept(await take(worker._consumers[0]))
        await worker._flow.hand_back()
        await worker._flow.drain()
        (error,) = (await letters(canal)).values()
        assert error.startswith("not an event: ")
        assert [each.event.id for each in await take(await canal.consumer("w2.x"))] == ["good"]


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_may_have_ended_its_workers_is_not_handed_back_to_the_next(
    server: Server, is_known: bool
) -> None:
    async with desk(server) as canal, idle(canal) as worker:
        await canal.publish(NewEvent(id="poison", data=1), NewEvent(id="good", data=2))
        poison, _ = await take(worker._consumers[0])
        await deliver_often(canal, poison, worker._lease.name)
        if is_known:
            await worker._flow.recover(worker._consumers[0])
        await worker._flow.hand_back()
        await worker._flow.drain()
        assert list(await letters(canal)) == ["poison"]
        assert "never settled" in (await letters(canal))["poison"]
        assert [each.event.id for each in await take(await canal.consumer("w2.x"))] == ["good"]


async def test_what_may_have_ended_its_workers_does_not_get_behind_its_keys_event_as_if_it_had_not(
    server: Server,
) -> None:
    async with desk(server) as canal, idle(canal, ordering=Ordering.KEY) as worker:
        await canal.publish(*(NewEvent(id=f"k.{number}", key="k", data=number) for number in range(3)))
        other = await canal.consumer("w9.x", ordering=Ordering.KEY)
        its = PartitionOwner(
            canal.wires, canal.keys.partition(0), canal.contract(ordering=Ordering.KEY), other
        )
        await its.ask(Wish.TAKE)
        first, second = (await other.read_watched(2)).deliveries
        await other.settle([retried(first, 60_000)])
        await deliver_often(canal, second, "w9.x")
        await other.release()
        ordered = worker._flow.ordered
        assert ordered is not None
        await ordered.ownership.look()
        assert await ordered.claim([0]) == 1
        worker._flow.accept((await worker._consumers[0].read_watched(1)).deliveries)
        await worker._flow._settlers[0].drain()
        assert list(await letters(canal)) == ["k.1"]
        assert "never settled" in (await letters(canal))["k.1"]
        parked = canal.keys.partition(0).parked("a", "k")
        assert await canal.command(parked, "LLEN", parked) == 1
