"""ripen.lua: retries go to the retry stream when they are due, where a blocking read finds them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.event import NewEvent
from headgate.streams.waiter import Waiter
from streams.desk import Desk, desk, eventually, retried, take

if TYPE_CHECKING:
    from headgate.streams import Server


async def put_off(canal: Desk, *delays_ms: int) -> None:
    consumer = await canal.consumer()
    await canal.publish(*(NewEvent(data=number, id=str(number), key="k") for number in range(len(delays_ms))))
    deliveries = await take(consumer, 1000)
    outcomes = [retried(delivery, ms) for delivery, ms in zip(deliveries, delays_ms, strict=True)]
    await consumer.settle(outcomes)


async def test_what_is_due_moves_in_order_and_the_rest_says_when(server: Server) -> None:
    async with desk(server) as canal:
        await put_off(canal, 60_000, 0, 0)
        consumer = await canal.consumer("w2.x")
        assert 50_000 < await consumer.ripen() <= 60_000
        partition = canal.keys.partition(0)
        moved = await canal.command(partition.retry("a"), "XRANGE", partition.retry("a"), "-", "+")
        assert [fields[b"id"] for _, fields in moved] == [b"1", b"2"]
        before = await canal.snapshot()
        assert await consumer.ripen() > 50_000
        assert await canal.snapshot() == before
        assert [(d.event.id, d.event.attempt) for d in await take(consumer)] == [("1", 2), ("2", 2)]


async def test_with_nothing_put_off_there_is_nothing_to_wait_for(server: Server) -> None:
    async with desk(server) as canal:
        assert await (await canal.consumer()).ripen() == -1


async def test_more_than_a_step_takes_more_steps(server: Server) -> None:
    async with desk(server) as canal:
        await put_off(canal, *[0] * 130)
        consumer = await canal.consumer("w2.x")
        assert await consumer.ripen() == 0
        assert await consumer.ripen() == -1
        assert len(await take(consumer, 1000)) == 130


async def test_of_a_closed_branch_nothing_moves(server: Server) -> None:
    async with desk(server) as canal:
        await put_off(canal, 0)
        partition = canal.keys.partition(0)
        await canal.command(partition.closed("a"), "SET", partition.closed("a"), "{}")
        before = await canal.snapshot()
        assert await (await canal.consumer("w1.x")).ripen() == -1
        assert (await canal.snapshot()).keys() == before.keys()
        assert (await canal.measured()).branches["a"].delayed == 1


async def test_it_ends_a_blocking_read_that_began_before_the_retry_was_put_off(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer("idle.x")
        waiter = Waiter(server, [consumer], "a")
        waiting = asyncio.create_task(waiter.wait(1, 60_000, 0))

        async def blocked() -> bool:
            return waiter._since > 0

        await eventually(blocked, "a blocking read")
        partition = canal.keys.partition(0)
        packed = "4:data1:12:id1:x4:lane6:normal7:attempt1:2"
        await canal.command(partition.delayed("a"), "ZADD", partition.delayed("a"), 1, packed)
        assert not waiting.done()
        await consumer.ripen()
        ((_, (delivery,)),) = await asyncio.wait_for(waiting, 30)
        assert (delivery.event.id, delivery.event.attempt) == ("x", 2)
        waiter.close()
