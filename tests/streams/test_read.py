"""read.lua: lanes by priority, shares, gates, due retries; and entries made by hand."""

from __future__ import annotations

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import (
    Gate,
    LeaseLostError,
    NotProvisionedError,
    Server,
    read_dead_letters,
    remove_pipeline,
    set_gate,
)
from headgate.streams.outcome import NO_TURN, Delivery, Turn
from streams.desk import dead, desk, done, eventually, retried, take

LOW_WAITS = Gate(delayed=frozenset({Lane.LOW}), max_delay_seconds=900)
LOW_AND_NORMAL_WAIT = Gate(delayed=frozenset({Lane.LOW, Lane.NORMAL}), max_delay_seconds=900)


def one_of_each(count: int = 1) -> list[NewEvent]:
    return [
        NewEvent(data=lane.value, lane=lane)
        for _ in range(count)
        for lane in (Lane.LOW, Lane.NORMAL, Lane.HIGH)
    ]


def data_of(deliveries: list) -> list:
    return [delivery.event.data for delivery in deliveries]


async def test_lanes_are_read_in_the_order_of_their_priority(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*one_of_each(2))
        consumer = await canal.consumer()
        assert data_of(await take(consumer, 3)) == ["high", "high", "normal"]
        assert data_of(await take(consumer, 3)) == ["normal", "low", "low"]
        assert await take(consumer, 3) == []


async def test_a_read_gives_no_more_than_it_was_asked_for(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*one_of_each(10))
        consumer = await canal.consumer()
        for turn in (NO_TURN, Turn(1, 1), Turn(10, 10)):
            for count in (1, 2, 5):
                assert len(await take(consumer, count, turn)) == count


async def test_a_read_begins_with_the_turn_of_the_lower_lanes_however_much_is_urgent(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*one_of_each(40))
        consumer = await canal.consumer()
        assert data_of(await take(consumer, 16, Turn(3, 2))) == ["low"] * 2 + ["normal"] * 3 + ["high"] * 11
        assert data_of(await take(consumer, 16, Turn(3, 0))) == ["normal"] * 3 + ["high"] * 13


async def test_a_single_place_goes_to_the_lowest_lane_whose_turn_it_is(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*one_of_each())
        consumer = await canal.consumer()
        assert data_of(await take(consumer, 1, Turn(1, 1))) == ["low"]
        assert data_of(await take(consumer, 1, Turn(1, 1))) == ["normal"]


async def test_every_branch_reads_every_event_once_whatever_its_workers(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(*range(20))
        for branch in ("a", "b"):
            workers = [await canal.consumer(f"w{n}.x", branch) for n in range(3)]
            read = [data for _ in range(3) for worker in workers for data in data_of(await take(worker, 4))]
            assert sorted(read) == list(range(20)), branch


@pytest.mark.parametrize("turn", [NO_TURN, Turn(2, 2)])
async def test_a_closed_lane_waits_and_the_others_flow(server: Server, turn: Turn) -> None:
    async with desk(server) as canal:
        await canal.publish(*one_of_each())
        consumer = await canal.consumer()
        await set_gate(server, canal.keys, "a", LOW_AND_NORMAL_WAIT, 60)
        deliveries, _, held = await consumer.read(10, turn)
        assert data_of(deliveries) == ["high"]
        assert held == 2 + 4
        await set_gate(server, canal.keys, "a", LOW_WAITS, 60)
        assert data_of(await take(consumer, turn=turn)) == ["normal"]
        await set_gate(server, canal.keys, "a", Gate.OPEN, 60)
        assert data_of(await take(consumer, turn=turn)) == ["low"]


async def test_a_gate_closes_for_its_own_branch_only(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await set_gate(server, canal.keys, "a", LOW_WAITS, 60)
        await canal.publish(NewEvent(data="low", lane=Lane.LOW))
        assert await take(await canal.consumer(branch="a")) == []
        assert data_of(await take(await canal.consumer(branch="b"))) == ["low"]


async def test_what_waited_longer_than_the_gates_patience_flows(server: Server) -> None:
    async with desk(server) as canal:
        stream = canal.keys.partition(0).lane(Lane.LOW)
        now_ms = (await canal.measured()).now_ms
        for seconds_ago in (100, 90, 50):
            await canal.command(
                stream, "XADD", stream, f"{now_ms - seconds_ago * 1000}-0", "data", seconds_ago
            )
        consumer = await canal.consumer()
        await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW}), max_delay_seconds=80), 60)
        assert data_of(await take(consumer, 1)) == [100]
        assert data_of(await take(consumer, 10)) == [90]
        assert await take(consumer, 10) == []
        await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW}), max_delay_seconds=40), 60)
        assert data_of(await take(consumer, 10, Turn(2, 2))) == [50]


def aged(deliveries: list[Delivery]) -> list[tuple[int, bool]]:
    """Data, which is an age in seconds, and whether it is given to be given up."""
    return [(delivery.event.data, delivery.expired is not None) for delivery in deliveries]


async def test_what_waits_past_the_deadline_is_given_to_be_given_up_besides_what_was_asked_for(
    server: Server,
) -> None:
    async with desk(server) as canal:
        stream = canal.keys.partition(0).lane(Lane.LOW)
        now_ms = (await canal.measured()).now_ms
        for seconds_ago in (400, 300, 90, 50):
            await canal.command(
                stream, "XADD", stream, f"{now_ms - seconds_ago * 1000}-0", "data", seconds_ago
            )
        await canal.publish(NewEvent(data=0, lane=Lane.HIGH), NewEvent(data=1, lane=Lane.HIGH))
        consumer = await canal.consumer()
        gate = Gate(frozenset({Lane.LOW}), max_delay_seconds=80, deadline_seconds=200)
        await set_gate(server, canal.keys, "a", gate, 60)
        first = await take(consumer, 1)
        assert aged(first) == [(400, True), (300, True), (0, False)]
        assert first[0].expired == (
            "given up in lane low, which backpressure delayed, at an age of 400 s:"
            " backpressure.deadlineSeconds is 200"
        )
        assert aged(await take(consumer, 10, Turn(5, 5))) == [(90, False), (1, False)]
        assert await take(consumer, 10) == []
        await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW}), 900, 20), 60)
        assert aged(await take(consumer, 10)) == [(50, True)]


@pytest.mark.parametrize(
    "gate",
    [
        Gate(frozenset({Lane.LOW}), max_delay_seconds=80),
        Gate(frozenset({Lane.NORMAL}), max_delay_seconds=80, deadline_seconds=10),
        Gate.OPEN,
    ],
    ids=["without a deadline", "another lane's", "open"],
)
async def test_without_a_deadline_on_its_own_lane_nothing_is_given_up_for_its_age(
    server: Server, gate: Gate
) -> None:
    async with desk(server) as canal:
        stream = canal.keys.partition(0).lane(Lane.LOW)
        await canal.command(stream, "XADD", stream, "1000-0", "data", 1)
        await set_gate(server, canal.keys, "a", gate, 60)
        assert aged(await take(await canal.consumer())) == [(1, False)]


async def test_a_gate_nobody_renews_opens_by_itself(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(NewEvent(data="low", lane=Lane.LOW))
        consumer = await canal.consumer()
        await set_gate(server, canal.keys, "a", LOW_WAITS, 0.2)
        assert await take(consumer) == []

        async def read() -> list:
            return data_of(await take(consumer))

        assert await eventually(read, "the gate's end") == ["low"]


async def test_a_due_retry_comes_before_new_events_with_its_attempt_counted(server: Server) -> None:
    async with desk(server) as canal:
        event = NewEvent(data="again", id="i", type="t", source="s", key="k", lane=Lane.LOW)
        await canal.publish(event)
        consumer = await canal.consumer()
        (first,) = await take(consumer)
        await consumer.settle([retried(first)])
        await canal.publish(NewEvent(data="urgent", lane=Lane.HIGH))
        second, urgent = await take(consumer)
        assert urgent.event.data == "urgent"
        assert second.event.attempt == 2
        for name in ("id", "type", "source", "key", "lane", "data", "published_ms", "idempotency_key"):
            assert getattr(second.event, name) == getattr(first.event, name), name
        await consumer.settle([retried(second)])
        (third,) = await take(consumer)
        assert third.event.attempt == 3
        await consumer.settle([done(third), done(urgent)])
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_a_retry_comes_when_it_is_due_and_the_read_says_how_long_that_is(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("later", "soon")
        consumer = await canal.consumer()
        later, soon = await take(consumer)
        assert (await consumer.read(10))[1] == -1
        await consumer.settle([retried(later, 60_000), retried(soon, 200)])
        deliveries, due_ms, _ = await consumer.read(10)
        assert deliveries == []
        assert 0 <= due_ms <= 200

        async def read() -> list:
            return data_of(await take(consumer))

        assert await eventually(read, "the retry") == ["soon"]
        deliveries, due_ms, _ = await consumer.read(10)
        assert deliveries == []
        assert 30_000 < due_ms <= 60_000


async def test_no_other_branch_sees_a_retry(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish("once")
        a, b = await canal.consumer(branch="a"), await canal.consumer(branch="b")
        (delivery,) = await take(a)
        await a.settle([retried(delivery)])
        assert len(await take(a)) == 1
        assert len(await take(b)) == 1
        assert await take(b) == []


async def test_more_retries_than_asked_for_wait_for_the_next_read(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(10))
        consumer = await canal.consumer()
        await consumer.settle([retried(delivery) for delivery in await take(consumer)])
        read = [data_of(await take(consumer, 4)) for _ in range(3)]
    assert [len(part) for part in read] == [4, 4, 2]
    assert sorted(data for part in read for data in part) == list(range(10))


async def test_a_consumer_without_a_lease_reads_nothing(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("safe")
        consumer = await canal.consumer("w1.x")
        beats = canal.keys.partition(0).beats("a")
        await canal.command(beats, "DEL", beats)
        with pytest.raises(LeaseLostError):
            await take(consumer)
        assert (await canal.measured()).branches["a"].undelivered == 1


async def test_a_lost_group_is_said_to_be_lost(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer()
        await remove_pipeline(server, canal.keys)
        with pytest.raises(LeaseLostError):
            await take(consumer)
        beats = canal.keys.partition(0).beats("a")
        await canal.command(beats, "ZADD", beats, 1, "w1.x")
        with pytest.raises(NotProvisionedError):
            await take(consumer)


async def test_an_entry_made_by_hand_with_only_data_is_an_event(server: Server) -> None:
    async with desk(server) as canal:
        entry = await canal.xadd({"data": '{"by": "hand"}'}, "high")
        (delivery,) = await take(await canal.consumer())
    event = delivery.event
    assert delivery.invalid is None
    assert (event.data, event.type, event.source, event.key) == ({"by": "hand"}, "event", "", None)
    assert event.id == f"high-{entry.decode()}"
    assert event.published_ms == int(entry.split(b"-")[0])
    assert event.lane is Lane.HIGH


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"payload": "1"}, "data"),
        ({"data": "1", "id": b"\xff\xfe"}, "utf-8"),
        ({"data": "1", "type": b"\x80"}, "utf-8"),
        ({"data": "1", "time": "yesterday"}, "yesterday"),
    ],
)
async def test_an_entry_that_is_no_event_is_marked_and_its_dead_letter_says_why(
    server: Server, fields: dict[str, bytes | str], reason: str
) -> None:
    async with desk(server) as canal:
        await canal.xadd(fields)
        await canal.publish("good")
        consumer = await canal.consumer()
        bad, good = await take(consumer)
        assert good.invalid is None
        assert bad.invalid is not None
        await consumer.settle([dead(bad, bad.invalid.encode()), done(good)])
        (letter,) = await read_dead_letters(server, canal.keys, "a")
        assert reason in letter.error
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_a_retry_with_fields_spoilt_by_hand_is_marked_too(server: Server) -> None:
    async with desk(server) as canal:
        retry = canal.keys.partition(0).retry("a")
        for fields in (
            ("data", "1"),
            ("data", "1", "lane", "low"),
            ("data", "1", "lane", "?", "attempt", "2"),
            ("data", "1", "lane", "low", "attempt", "x"),
        ):
            await canal.command(retry, "XADD", retry, "*", *fields)
        read = await take(await canal.consumer())
    assert len(read) == 4
    assert all(delivery.invalid for delivery in read)
