"""settle.lua for a branch ordered by key: what fails blocks its key alone, and what is behind it follows in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.contract import Ordering
from headgate.event import NewEvent
from headgate.streams.outcome import Kind, Outcome
from streams.desk import dead, desk, done, retried

if TYPE_CHECKING:
    from headgate.streams import Server
    from headgate.streams.consumer import Consumer
    from headgate.streams.outcome import Delivery
    from streams.desk import Desk


def parked(delivery: Delivery) -> Outcome:
    return Outcome(delivery, Kind.PARK)


def back(delivery: Delivery) -> Outcome:
    return Outcome(delivery, Kind.BACK)


async def keyed(canal: Desk, *keys: str) -> tuple[Consumer, list[Delivery]]:
    """Publishes an event a key, numbered in order, and reads them all."""
    await canal.publish(*(NewEvent(data=n, id=f"e{n}", key=key) for n, key in enumerate(keys)))
    consumer = await canal.consumer(ordering=Ordering.KEY)
    return consumer, await plain(consumer)


async def plain(consumer: Consumer) -> list[Delivery]:
    """Everything there is, read without a look at who owns the partition: that is not what is tested here."""
    return await consumer.read_plain(3, 100)


async def due(canal: Desk, consumer: Consumer) -> list[Delivery]:
    """What the retry stream gives once all that is delayed is due."""
    other = await canal.consumer("w2.x", "a")
    found, _, _ = await other.read(100)
    await other.settle([back(each) for each in found])
    return await plain(consumer)


async def test_a_retry_blocks_its_key_and_what_is_parked_follows_it_in_order(server: Server) -> None:
    async with desk(server) as canal:
        consumer, (first, second, third, other) = await keyed(canal, "k", "k", "k", "o")
        settled = await consumer.settle([retried(first), parked(second), parked(third), done(other)])
        assert settled.count == 4
        assert await blocked(canal) == {b"k": b"e0"}
        figures = (await canal.measured()).branches["a"]
        assert (figures.delayed, figures.done, figures.retried) == (3, 1, 1)
        order = []
        (head,) = await due(canal, consumer)
        while True:
            order.append((head.event.id, head.event.attempt))
            unblocked = (await consumer.settle([done(head)])).unblocked
            if unblocked:
                break
            (head,) = await plain(consumer)
        assert order == [("e0", 2), ("e1", 1), ("e2", 1)]
        assert unblocked == ("k",)
        assert await blocked(canal) == {}
        figures = (await canal.measured()).branches["a"]
        assert (figures.backlog, figures.done, figures.delayed) == (0, 4, 0)


async def blocked(canal: Desk) -> dict[bytes, bytes]:
    name = canal.keys.partition(0).blocked("a")
    found: dict[bytes, bytes] | list[bytes] = await canal.command(name, "HGETALL", name)
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


async def test_a_dead_letter_frees_what_is_behind_it(server: Server) -> None:
    async with desk(server) as canal:
        consumer, (first, second) = await keyed(canal, "k", "k")
        await consumer.settle([retried(first), parked(second)])
        (head,) = await due(canal, consumer)
        assert (await consumer.settle([dead(head)])).unblocked == ()
        (head,) = await plain(consumer)
        assert head.event.id == "e1"
        assert (await consumer.settle([done(head)])).unblocked == ("k",)


async def test_an_event_parked_just_after_its_key_was_freed_is_not_left_behind(server: Server) -> None:
    async with desk(server) as canal:
        consumer, (late,) = await keyed(canal, "k")
        await consumer.settle([parked(late)])
        (head,) = await plain(consumer)
        assert head.event.id == "e0"
        assert await blocked(canal) == {b"k": b"e0"}
        assert (await consumer.settle([done(head)])).unblocked == ("k",)


async def test_another_event_of_a_blocked_key_on_the_retry_stream_frees_nothing(server: Server) -> None:
    async with desk(server) as canal:
        consumer, (first, second) = await keyed(canal, "k", "k")
        await consumer.settle([retried(first, delay_ms=60_000), parked(second)])
        # As a redrive of an old dead letter does.
        stream = canal.keys.partition(0).retry("a")
        await canal.command(
            stream, "XADD", stream, "*", "data", "1", "id", "old", "key", "k", "lane", "low", "attempt", "1"
        )
        (redriven,) = await plain(consumer)
        assert (await consumer.settle([done(redriven)])).unblocked == ()
        assert await blocked(canal) == {b"k": b"e0"}
        assert await plain(consumer) == []


async def test_what_goes_back_keeps_the_order_of_its_key(server: Server) -> None:
    async with desk(server) as canal:
        consumer, deliveries = await keyed(canal, "k", "k", "k")
        await consumer.settle([back(each) for each in deliveries])
        order = []
        for _ in range(3):
            (head,) = await plain(consumer)
            order.append((head.event.id, head.event.attempt))
            await consumer.settle([done(head)])
        assert order == [("e0", 1), ("e1", 1), ("e2", 1)]


async def test_events_without_a_key_wait_for_nobody(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(NewEvent(data=1, id="i"))
        consumer = await canal.consumer(ordering=Ordering.KEY)
        (delivery,) = await plain(consumer)
        await consumer.settle([retried(delivery, delay_ms=60_000)])
        assert await blocked(canal) == {}


async def test_what_a_worker_without_the_order_settles_frees_its_key_too(server: Server) -> None:
    """While `ordering` is rolled out both kinds work; a key that stayed blocked would be so for ever."""
    async with desk(server) as canal:
        ordered, deliveries = await keyed(canal, "k", "k", "k", "k", "o")
        first, *behind, other = deliveries
        await ordered.settle([retried(first), *map(parked, behind), retried(other)])
        unordered = await canal.consumer("w3.x")
        order = []
        for outcome in (done, dead, done, done):
            found = {each.event.key: each for each in await due(canal, unordered)}
            assert await blocked(canal) == {
                key.encode(): each.event.id.encode() for key, each in found.items()
            }
            order += [found["k"].event.id]
            assert (await unordered.settle([outcome(each) for each in found.values()])).count == len(found)
        assert order == ["e0", "e1", "e2", "e3"]
        assert await blocked(canal) == {}
        figures = (await canal.measured()).branches["a"]
        assert (figures.backlog, figures.done, figures.dead) == (0, 4, 1)
