"""Effects, in settle.lua: applied once, together with the settling of their event, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate import count, emit, put, split
from headgate.event import Lane, NewEvent
from headgate.relay import Relay
from headgate.streams import (
    LeaseLostError,
    PipelineKeys,
    Server,
    StreamsError,
    ensure_groups,
    read_counts,
    read_value,
    read_values,
)
from headgate.worker.composer import Composer
from streams.desk import Desk, desk, take

if TYPE_CHECKING:
    from headgate.streams.consumer import Consumer
    from headgate.streams.outcome import Delivery, Outcome


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def outcome(canal: Desk, delivery: Delivery, *effects: Any, branch: str = "a") -> Outcome:
    """What a handler of the branch that returned these effects comes to."""
    return Composer(canal.contract(branch)).done(delivery, list(effects))


async def one(canal: Desk, event: NewEvent, branch: str = "a") -> tuple[Consumer, Delivery]:
    """Publishes an event and reads it."""
    (receipt,) = await canal.publish(event)
    consumer = await canal.consumer("w1.x", branch, receipt.partition)
    (delivery,) = await take(consumer)
    return consumer, delivery


async def relayed(canal: Desk) -> int:
    return await Relay(canal.server, canal.keys).run()


async def test_counts_add_up_over_events_and_partitions(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        await canal.publish(*(NewEvent(data=n, id=f"e{n}") for n in range(40)))
        for partition in range(4):
            consumer = await canal.consumer("w1.x", "a", partition)
            deliveries = await take(consumer)
            await consumer.settle(
                [outcome(canal, each, count("all"), count("sum", each.event.data)) for each in deliveries]
            )
        assert await read_counts(server, canal.keys) == {"all": 40, "sum": sum(range(40))}


async def test_a_settle_repeated_applies_no_effect_again(server: Server) -> None:
    async with desk(server) as canal:
        consumer, delivery = await one(canal, NewEvent(data=1))
        parts = split([NewEvent(data=2), NewEvent(data=3)])
        settled = outcome(canal, delivery, count("n", 5), put("k", {"v": 1}), emit(NewEvent(data=9)), parts)
        assert (await consumer.settle([settled])).count == 1
        before = await canal.snapshot()
        assert (await consumer.settle([settled])).count == 0
        assert await canal.snapshot() == before
        assert await read_counts(server, canal.keys) == {"n": 5}
        assert (await canal.measured()).published == 4


async def test_who_lost_the_lease_applies_nothing(server: Server) -> None:
    async with desk(server) as canal:
        consumer, delivery = await one(canal, NewEvent(data=1))
        beats = canal.keys.partition(0).beats("a")
        await canal.command(beats, "ZREM", beats, "w1.x")
        before = await canal.snapshot()
        with pytest.raises(LeaseLostError):
            await consumer.settle([outcome(canal, delivery, count("n"), emit(NewEvent(data=9)))])
        assert await canal.snapshot() == before


async def test_effects_the_server_refuses_leave_the_event_pending_and_nothing_half_done(
    server: Server,
) -> None:
    async with desk(server) as canal:
        consumer, delivery = await one(canal, NewEvent(data=1))
        values = canal.keys.partition(0).values
        await canal.command(values, "SET", values, "not a hash")
        with pytest.raises(StreamsError, match="WRONGTYPE"):
            await consumer.settle([outcome(canal, delivery, count("n"), put("k", 1))])
        assert await read_counts(server, canal.keys) == {}
        await canal.command(values, "DEL", values)
        assert (await consumer.settle([outcome(canal, delivery, count("n"), put("k", 1))])).count == 1
        assert await read_counts(server, canal.keys) == {"n": 1}


async def test_the_last_value_put_wins_and_none_removes_it(server: Server) -> None:
    async with desk(server) as canal:
        for number, value in enumerate([{"a": 1}, [2], "three"]):
            consumer, delivery = await one(canal, NewEvent(data=number))
            await consumer.settle([outcome(canal, delivery, put("k", value), put("other", number))])
        assert await read_values(server, canal.keys) == {"k": "three", "other": 2}
        consumer, delivery = await one(canal, NewEvent(data=4))
        await consumer.settle([outcome(canal, delivery, put("k", None))])
        assert await read_values(server, canal.keys) == {"other": 2}


async def test_a_value_is_kept_on_its_keys_partition_whatever_partition_put_it(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        for number in range(12):
            consumer, delivery = await one(canal, NewEvent(data=number, id=f"e{number}"))
            await consumer.settle([outcome(canal, delivery, put("k", number))])
            await relayed(canal)
        assert await read_value(server, canal.keys, "k") == 11
        assert await read_values(server, canal.keys) == {"k": 11}
        homes = [await canal.command(each.values, "EXISTS", each.values) == 1 for each in canal.keys.all]
        assert homes == [number == canal.keys.partition_of("k") for number in range(4)]


async def test_an_event_emitted_into_the_own_pipeline_is_there_with_the_settle(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        consumer, delivery = await one(canal, NewEvent(data=1, id="i", traceparent=TRACEPARENT))
        new = NewEvent(data={"n": 2}, type="child", lane=Lane.HIGH, key="k")
        settled = await consumer.settle([outcome(canal, delivery, emit(new))])
        (emitted,) = await take(consumer)
        of_b = await take(await canal.consumer("w9.x", "b"))
    assert (settled.count, settled.outboxed) == (1, 0)
    event = emitted.event
    assert (event.id, event.type, event.lane, event.key) == ("i/a/0", "child", Lane.HIGH, "k")
    assert (event.data, event.source, event.traceparent) == ({"n": 2}, "/test/canal/a", TRACEPARENT)
    assert event.root is None
    assert {each.event.id for each in of_b} == {"i", "i/a/0"}


async def test_an_emitted_id_is_published_once_within_the_dedupe_window(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1, 2)
        consumer = await canal.consumer()
        for delivery in await take(consumer):
            await consumer.settle([outcome(canal, delivery, emit(NewEvent(data=1, id="same")))])
        assert [each.event.id for each in await take(consumer)] == ["same"]


async def test_what_is_emitted_into_another_pipeline_is_relayed_once(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        other = PipelineKeys("test", "other", 3)
        await ensure_groups(server, other, ["x"])
        for number in range(10):
            consumer, delivery = await one(canal, NewEvent(data=number, id=f"e{number}"))
            new = NewEvent(data=number, key=f"k{number}")
            settled = await consumer.settle([outcome(canal, delivery, emit(new, to="other"))])
            assert settled.outboxed == 1
        assert (await canal.measured()).outbox == 10
        assert await relayed(canal) == 10
        assert await relayed(canal) == 0
        assert (await canal.measured()).outbox == 0
        there = await events_of(server, other)
    assert {(each, partition) for each, partition in there} == {
        (f"e{number}/a/0", other.partition_of(f"k{number}")) for number in range(10)
    }
    assert len(there) == 10


async def events_of(server: Server, keys: PipelineKeys) -> list[tuple[str, int]]:
    """Ids of everything in a pipeline's lanes, and their partitions."""
    found = []
    for partition in keys.all:
        for lane in partition.lanes:
            for _, fields in await server.execute(lane, "XRANGE", lane, "-", "+"):
                found.append((fields[b"id"].decode(), partition.number))
    return found


async def test_what_is_for_a_pipeline_that_is_not_there_waits_and_holds_up_nothing_else(
    server: Server,
) -> None:
    async with desk(server) as canal:
        there = PipelineKeys("test", "there", 1)
        await ensure_groups(server, there, ["x"])
        consumer, delivery = await one(canal, NewEvent(data=1, id="i"))
        await consumer.settle(
            [
                outcome(
                    canal,
                    delivery,
                    emit(NewEvent(data=1), to="missing"),
                    emit(NewEvent(data=2), to="test/there"),
                )
            ]
        )
        assert await relayed(canal) == 1
        assert (await canal.measured()).outbox == 1
        missing = PipelineKeys("test", "missing", 1)
        await ensure_groups(server, missing, ["x"])
        assert await relayed(canal) == 1
        assert await events_of(server, missing) == [("i/a/0", 0)]
        assert await events_of(server, there) == [("i/a/1", 0)]


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (put("k", object()), "cannot be applied"),
        (emit(NewEvent(data=object())), "cannot be applied"),
        (count("half a pair \ud800"), "cannot be applied"),
        (emit(NewEvent(data=1), to="half a pair \ud800"), "cannot be applied"),
        (emit(NewEvent(data=1), to="a/b/c"), "no pipeline's name"),
        (split([NewEvent(data=n) for n in range(10_001)]), "at most 10000"),
    ],
)
async def test_an_effect_that_cannot_be_makes_a_dead_letter_that_says_why(
    server: Server, effect, said
) -> None:
    async with desk(server) as canal:
        consumer, delivery = await one(canal, NewEvent(data=1))
        dead = outcome(canal, delivery, count("n"), effect)
        await consumer.settle([dead])
        figures = (await canal.measured()).branches["a"]
        assert said in dead.detail.decode()
        assert figures.dead == 1
        assert await read_counts(server, canal.keys) == {}
