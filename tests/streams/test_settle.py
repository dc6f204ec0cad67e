"""settle.lua: done, retried or dead, once each, and only by the consumer that holds the lease."""

from __future__ import annotations

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import LeaseLostError, Server, read_dead_letters
from streams.desk import Desk, dead, desk, done, eventually, retried, take


async def backlog(canal: Desk) -> int | None:
    return (await canal.measured()).branches["a"].backlog


@pytest.mark.parametrize("outcome", [done, retried, dead])
async def test_a_settle_repeated_changes_nothing(server: Server, outcome) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3))
        consumer = await canal.consumer()
        outcomes = [outcome(delivery) for delivery in await take(consumer)]
        assert (await consumer.settle(outcomes)).count == 3
        before = await canal.snapshot()
        assert (await consumer.settle(outcomes)).count == 0
        assert await canal.snapshot() == before


@pytest.mark.parametrize("outcome", [done, retried, dead])
async def test_a_consumer_whose_lease_ended_settles_nothing(server: Server, outcome) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3))
        consumer = await canal.consumer("w1.x")
        outcomes = [outcome(delivery) for delivery in await take(consumer)]
        beats = canal.keys.partition(0).beats("a")
        await canal.command(beats, "ZREM", beats, "w1.x")
        before = await canal.snapshot()
        with pytest.raises(LeaseLostError):
            await consumer.settle(outcomes)
        assert await canal.snapshot() == before


@pytest.mark.parametrize("outcome", [done, retried, dead])
async def test_the_old_owners_late_settle_of_a_claimed_delivery_changes_nothing(
    server: Server, outcome
) -> None:
    async with desk(server) as canal:
        await canal.publish("contested")
        old, new = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        (late,) = await take(old)
        beats = canal.keys.partition(0).beats("a")
        await canal.command(beats, "ZREM", beats, "w1.x")
        (claimed,) = await new.beat(10)
        before = await canal.snapshot()
        with pytest.raises(LeaseLostError):
            await old.settle([outcome(late)])
        assert await canal.snapshot() == before
        assert (await new.settle([done(claimed)])).count == 1
        with pytest.raises(LeaseLostError):
            await old.settle([outcome(late)])
        # And should it have come back under another name, the delivery is no longer pending.
        await old.register("w1.y")
        settled = await canal.snapshot()
        assert (await old.settle([outcome(late)])).count == 0
        assert await canal.snapshot() == settled
        figures = (await canal.measured()).branches["a"]
    assert (figures.done, figures.dead, figures.retried, figures.backlog) == (1, 0, 0, 0)


async def test_what_is_done_leaves_the_backlog_and_is_counted_with_the_time_it_took(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*[NewEvent(data=1, lane=lane) for lane in Lane])
        consumer = await canal.consumer()
        deliveries = await take(consumer)
        assert await backlog(canal) == 3
        assert (await consumer.settle([done(each, busy_us=100) for each in deliveries])).count == 3
        figures = (await canal.measured()).branches["a"]
    assert (figures.done, figures.settled, figures.backlog, figures.busy_us) == (3, 3, 0, 300)


async def test_five_hundred_outcomes_of_all_kinds_are_one_settle(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(500))
        consumer = await canal.consumer()
        kinds = (done, retried, dead)
        deliveries = await take(consumer, 500)
        assert (await consumer.settle([kinds[each.event.data % 3](each) for each in deliveries])).count == 500
        figures = (await canal.measured()).branches["a"]
        assert (figures.done, figures.retried, figures.dead) == (167, 167, 166)
        assert (figures.delayed, figures.dead_letters, figures.pending) == (167, 166, 0)
        again = await take(consumer, 500)
    assert sorted(each.event.data for each in again) == [n for n in range(500) if n % 3 == 1]


async def test_a_failed_attempt_leaves_the_source_for_the_branchs_own_delay_set(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("again")
        consumer = await canal.consumer()
        (delivery,) = await take(consumer)
        await consumer.settle([retried(delivery, 60_000)])
        figures = await canal.measured()
        assert (figures.branches["a"].pending, figures.branches["a"].delayed) == (0, 1)
        delayed = canal.keys.partition(0).delayed("a")
        _, due_ms = await canal.command(delayed, "ZRANGE", delayed, 0, -1, "WITHSCORES")
    assert figures.now_ms + 55_000 < int(due_ms) <= figures.now_ms + 60_000


async def test_equal_events_that_fail_together_are_both_tried_again(server: Server) -> None:
    async with desk(server) as canal:
        for _ in range(2):
            await canal.xadd({"data": "1", "id": "same", "time": "5"})
        consumer = await canal.consumer()
        deliveries = await take(consumer)
        await consumer.settle([retried(each) for each in deliveries])
        assert (await canal.measured()).branches["a"].delayed == 2
        again = await take(consumer)
        await consumer.settle([retried(each) for each in again])
        assert len(await take(consumer)) == 2


async def test_settled_retries_leave_nothing_behind_in_their_stream(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(4))
        consumer = await canal.consumer()
        await consumer.settle([retried(each) for each in await take(consumer)])
        one, two, three, four = await take(consumer)
        await consumer.settle([done(one), done(two, b"1"), retried(three, 60_000), dead(four)])
        retry = canal.keys.partition(0).retry("a")
        assert await canal.command(retry, "XLEN", retry) == 0


async def test_a_dead_letter_keeps_the_event_the_error_and_the_attempts(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(NewEvent(data={"n": 1}, id="i", key="k"))
        consumer = await canal.consumer()
        (first,) = await take(consumer)
        await consumer.settle([retried(first)])
        (second,) = await take(consumer)
        await consumer.settle([dead(second, "Fehler: größer".encode())])
        (letter,) = await read_dead_letters(server, canal.keys, "a")
        figures = (await canal.measured()).branches["a"]
    assert (letter.id, letter.data, letter.attempts, letter.partition) == ("i", {"n": 1}, 2, 0)
    assert letter.error == "Fehler: größer"
    assert (figures.dead, figures.dead_letters, figures.backlog) == (1, 1, 0)


async def test_an_endless_error_is_cut(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        consumer = await canal.consumer()
        (delivery,) = await take(consumer)
        await consumer.settle([dead(delivery, "ä".encode() * 100_000)])
        (letter,) = await read_dead_letters(server, canal.keys, "a")
    assert 900 < len(letter.error) <= 2000


@pytest.mark.parametrize(
    "body", [b"", b"3:abc", b"\x00\xff:1:\n", b"9" * 5000, bytes(range(256)) * 40, b'"\xff"'], ids=range(6)
)
async def test_any_bytes_survive_a_retry_and_a_death(server: Server, body: bytes) -> None:
    async with desk(server) as canal:
        await canal.xadd({"data": body, "id": "1:2:3", "key": ":", "source": ""})
        consumer = await canal.consumer()
        (first,) = await take(consumer)
        await consumer.settle([retried(first)])
        (second,) = await take(consumer)
        assert (second.event.body, second.event.id, second.event.key) == (body, "1:2:3", ":")
        await consumer.settle([dead(second)])
        letters = canal.keys.partition(0).dead("a")
        ((_, fields),) = await canal.command(letters, "XRANGE", letters, "-", "+")
        assert len(await read_dead_letters(server, canal.keys, "a")) == 1
    assert fields[b"data"] == body


async def test_a_branchs_settle_leaves_the_other_branches_alone(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1)
        a, b = await canal.consumer(branch="a"), await canal.consumer(branch="b")
        (of_a,), (of_b,) = await take(a), await take(b)
        await a.settle([done(of_a)])
        assert (await canal.measured()).branches["b"].pending == 1
        assert (await b.settle([done(of_b)])).count == 1


async def test_a_retry_whose_deadline_passed_while_nobody_worked_still_comes(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("again")
        consumer = await canal.consumer("w1.x")
        (delivery,) = await take(consumer)
        await consumer.settle([retried(delivery, 1)])
        await consumer.release()

        async def measured() -> bool:
            return await backlog(canal) == 1

        await eventually(measured, "the retry in the backlog")
        assert len(await take(await canal.consumer("w2.x"))) == 1
