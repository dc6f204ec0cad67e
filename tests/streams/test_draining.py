"""A branch that is taken out takes what had been published before, exactly, and goes when that is settled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headgate.contract import Ordering
from headgate.event import Lane, NewEvent
from headgate.streams import (
    BranchStart,
    Ensured,
    NotProvisionedError,
    Removal,
    Server,
    close_branch,
    ensure_groups,
    plan_replay,
    read_dead_letters,
    replay,
    sweep,
)
from headgate.streams.waiter import Waiter
from streams.desk import Desk, dead, desk, done, eventually, retried, take
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.streams.consumer import Consumer

DRAIN = Removal(drain=True)


async def take_out(canal: Desk, *left: str, removal: Removal = DRAIN) -> Ensured:
    return await ensure_groups(canal.server, canal.keys, left, removal=removal)


async def settle_all(consumer: Consumer) -> list[object]:
    """Reads and settles until there is nothing; the events' data."""
    found = []
    while deliveries := await take(consumer, 7):
        await consumer.settle([done(delivery) for delivery in deliveries])
        found += [delivery.event.data for delivery in deliveries]
    return found


async def test_it_takes_what_was_published_before_in_all_lanes_and_nothing_after(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=2) as canal:
        await canal.publish(*(NewEvent(data=n, lane=list(Lane)[n % 3]) for n in range(60)))
        assert len(await take(await canal.consumer("w1.x", "b"), 5)) == 5
        ensured = await take_out(canal, "a")
        assert (ensured.draining, ensured.drained) == ({"b": 60}, ())
        await canal.publish(*(NewEvent(data=n, lane=list(Lane)[n % 3]) for n in range(60, 90)))
        canal.branches = ("a", "b")
        figures = (await canal.measured()).branches
        assert (figures["a"].backlog, figures["b"].backlog, figures["b"].pending) == (90, 60, 5)
        assert figures["b"].age_ms > 0
        found = await settle_all(await canal.consumer("w2.x", "b", 1))
        found += await settle_all(await canal.consumer("w2.x", "b", 0))
        assert len(found) == 55
        assert all(number < 60 for number in found)
        assert (await canal.measured()).branches["b"].backlog == 5
        assert (await take_out(canal, "a")).draining == {"b": 5}


async def test_not_even_a_worker_that_waits_in_a_blocking_read_gets_what_comes_after(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        consumer = await canal.consumer("w1.x", "b")
        waiter = Waiter(server, [consumer], "b")
        try:
            waiting = asyncio.create_task(waiter.wait(16, 1500, 0))
            await asyncio.sleep(0.2)
            assert (await take_out(canal, "a")).draining == {}  # nothing to drain: it is gone at once
            with pytest.raises(NotProvisionedError):
                await waiting
            await ensure_groups(server, canal.keys, ["a", "b"])
            await consumer.register("w1.y")
            await canal.publish("before")
            waiting = asyncio.create_task(waiter.wait(16, 1500, 6))  # in the high lane and the retries only
            await asyncio.sleep(0.2)
            assert (await take_out(canal, "a")).draining == {"b": 1}
            await canal.publish(NewEvent(data="after", lane=Lane.HIGH))
            assert await waiting == []
            assert await consumer.read_plain(3, 100) == []
            assert await settle_all(consumer) == ["before"]
        finally:
            waiter.close()


async def test_it_goes_when_everything_of_it_is_settled_and_leaves_its_dead_letters(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=2) as canal:
        await canal.publish(*(NewEvent(data=n, key=f"k{n}") for n in range(20)))
        consumers = [await canal.consumer("w1.x", "b", number) for number in range(2)]
        held = [await take(consumer, 100) for consumer in consumers]
        await consumers[0].settle([dead(held[0][0]), *(done(each) for each in held[0][1:])])
        await take_out(canal, "a")
        await consumers[1].settle([retried(held[1][0], 60_000), *(done(each) for each in held[1][1:])])
        assert (await take_out(canal, "a")).draining == {"b": 1}
        delayed = canal.keys.partition(1).delayed("b")
        (packed,) = await canal.command(delayed, "ZRANGE", delayed, 0, -1)
        await canal.command(delayed, "ZADD", delayed, 0, packed)
        (again,) = await take(consumers[1])
        assert (await take_out(canal, "a")).draining == {"b": 1}
        await consumers[1].settle([done(again)])
        ended = await take_out(canal, "a")
        assert (ended.draining, ended.drained) == ({}, ("b",))
        left = {name.decode().partition("}:")[2] for name in await canal.snapshot()}
        assert {name for name in left if name.endswith(":b")} == {"dead:b"}
        assert len(await read_dead_letters(server, canal.keys, "b")) == 1
        assert await take_out(canal, "a") == Ensured()
        with pytest.raises(NotProvisionedError):
            await canal.consumer("w2.x", "b")


async def test_put_back_while_it_drains_it_goes_on_with_all_that_was_published_meanwhile(
    server: Server,
) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(*range(2500))
        consumer, other = await canal.consumer("w1.x", "b"), await canal.consumer("w1.x", "a")
        while deliveries := await take(other, 250):
            await other.settle([done(delivery) for delivery in deliveries])
        first = await take(consumer, 100)
        await take_out(canal, "a")
        second = await take(consumer, 100)
        await canal.publish(*range(2500, 2600))
        await sweep(server, canal.keys, None)
        assert (await ensure_groups(server, canal.keys, ["a", "b"], removal=DRAIN)).changes == 3
        assert await ensure_groups(server, canal.keys, ["a", "b"], removal=DRAIN) == Ensured()
        canal.branches = ("a", "b")
        figures = (await canal.measured()).branches["b"]
        assert (figures.undelivered, figures.pending) == (2400, 200)
        third = await take(consumer, 200)
        assert [each.event.data for each in (*first, *second, *third)] == list(range(400))
        assert (await canal.measured()).branches["b"].undelivered == 2200
        held = canal.keys.partition(0).held("b")
        assert await canal.command(held, "EXISTS", held) == 0


async def test_nothing_it_still_needs_is_trimmed_and_what_it_does_not_need_is(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.publish(*range(1000))
        await take_out(canal, "a")
        await canal.publish(*range(1000, 2000))
        a, b = await canal.consumer("w1.x", "a"), await canal.consumer("w1.x", "b")
        while deliveries := await take(a, 250):
            await a.settle([done(delivery) for delivery in deliveries])
        await sweep(server, canal.keys, None)
        assert await canal.command(lane, "XLEN", lane) == 2000
        for _ in range(2):
            await b.settle([done(delivery) for delivery in await take(b, 250)])
        await sweep(server, canal.keys, None)
        assert 1500 <= await canal.command(lane, "XLEN", lane) <= 1600
        assert len(await settle_all(b)) == 500


async def test_what_a_hard_cap_takes_from_it_is_counted_and_it_still_comes_to_an_end(server: Server) -> None:
    from headgate.streams import SourceSettings  # noqa: PLC0415 - of this test alone

    async with desk(server, ("a", "b")) as canal:
        settings = SourceSettings(max_events=100)
        await ensure_groups(server, canal.keys, ["a", "b"], settings)
        await canal.publish(*range(400))
        await ensure_groups(server, canal.keys, ["a"], settings, DRAIN)
        await canal.publish(*range(400, 700))
        swept = await sweep(server, canal.keys, None)
        assert swept.lost["b"] >= 400
        canal.branches = ("a", "b")
        assert (await canal.measured()).branches["b"].backlog == 0
        assert await settle_all(await canal.consumer("w1.x", "b")) == []
        assert (await ensure_groups(server, canal.keys, ["a"], settings, DRAIN)).drained == ("b",)


async def test_paused_it_takes_nothing_and_goes_on_when_the_pipeline_does(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1, 2)
        paused = [BranchStart("a", paused=True)]
        await ensure_groups(server, canal.keys, paused, removal=Removal(drain=True, paused=True))
        consumer = await canal.consumer("w1.x", "b")
        assert (await consumer.read(10))[:3] == ([], -1, 16)
        await take_out(canal, "a")
        assert await settle_all(consumer) == [1, 2]


async def test_delete_takes_one_that_drains_at_once(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1, 2)
        await take_out(canal, "a")
        assert (await take_out(canal, "a", removal=Removal())).draining == {}
        left = {name.decode() for name in await canal.snapshot()}
        assert not {name for name in left if name.endswith(":b")}


async def test_a_closed_one_stays_closed_and_waits(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1)
        await close_branch(server, canal.keys, "b", "410", "https://t.example/")
        assert (await take_out(canal, "a")).draining == {"b": 1}
        assert await settle_all(await canal.consumer("w1.x", "b")) == []


async def test_a_replay_leaves_it_alone(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1, 2)
        plan = await plan_replay(server, canal.keys, "b", 0)
        await take_out(canal, "a")
        with pytest.raises(NotProvisionedError):
            await plan_replay(server, canal.keys, "b", 0)
        with pytest.raises(NotProvisionedError):
            await replay(server, canal.keys, plan)


@pytest.mark.parametrize("ordering", list(Ordering))
async def test_real_workers_drain_it_to_the_last_event_while_publishing_goes_on(
    server: Server, tmp_path: Path, ordering: Ordering
) -> None:
    async with desk(server, ("a", "b"), partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            for _ in range(2):
                workers.start(canal.contract("b", ordering=ordering))
            for start in range(0, 300, 10):
                await canal.publish(*(_event(n) for n in range(start, start + 10)))
            await take_out(canal, "a")
            for start in range(300, 500, 10):
                await canal.publish(*(_event(n) for n in range(start, start + 10)))

            async def gone() -> bool:
                return not (await take_out(canal, "a")).draining

            await eventually(gone, "the branch to be gone")
            ended = workers.count("end")
    assert ended == {f"e{n}": 1 for n in range(300)}


def _event(number: int) -> NewEvent:
    do = "fail-once" if number % 20 == 0 else "return"
    return NewEvent(id=f"e{number}", key=f"k{number % 9}", data={"do": do})
