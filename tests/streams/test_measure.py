"""measure.lua: what is known of a pipeline, without writing; and the doorbell that says when to look."""

from __future__ import annotations

import asyncio
import time
from random import Random

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import Doorbell, Gate, PipelineKeys, Server, measure, remove_pipeline, set_gate, sweep
from streams.desk import Desk, dead, desk, done, retried, take


async def make_lag_unknown(canal: Desk, position: str) -> None:
    """The server no longer knows how many entries the group has read: XINFO's lag is nil."""
    lane = canal.keys.partition(0).lane(Lane.NORMAL)
    await canal.command(lane, "XGROUP", "SETID", lane, "a", position)
    (group,) = await canal.command(lane, "XINFO GROUPS", lane)
    assert group["lag"] is None


async def test_every_figure_is_what_happened(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=4) as canal:
        await canal.publish(*(NewEvent(data=n, key="one partition", lane=Lane.LOW) for n in range(10)))
        partition = canal.keys.partition_of("one partition")
        first = await canal.consumer("w1.x", partition=partition)
        second = await canal.consumer("w2.y", partition=partition)
        one, two, three, four = await take(first, 4)
        await take(second, 2)
        await first.settle([done(one, busy_us=7), retried(two, 60_000), dead(three)])
        await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW})), 60)
        figures = await canal.measured()
    a, b = figures.branches["a"], figures.branches["b"]
    assert figures.published == 10
    assert (a.undelivered, a.pending, a.delayed, a.dead_letters) == (4, 3, 1, 1)
    assert a.backlog == 4 + 3 + 1
    assert (a.done, a.retried, a.dead, a.busy_us, a.settled) == (1, 1, 1, 7, 2)
    assert a.holding == {"w1": 1, "w2": 2}
    assert a.gate == "delayed"
    assert (a.lanes[Lane.LOW].undelivered, a.lanes[Lane.LOW].pending) == (4, 3)
    assert a.lanes[Lane.HIGH].backlog == a.lanes[Lane.NORMAL].backlog == 0
    assert (b.backlog, b.undelivered, b.gate, b.holding) == (10, 10, "open", {})
    assert four.event.data == 3


async def test_measuring_writes_nothing(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=4) as canal:
        await canal.publish(*range(30))
        before = await canal.snapshot()
        await canal.measured()
        assert await canal.snapshot() == before


async def test_one_at_rest_is_the_same_measurement_as_before_until_anything_changes(server: Server) -> None:
    async with desk(server, ("a",), partitions=2) as canal:
        wanted = [(canal.keys, ("a",))]
        (first,) = await measure(server, wanted)
        assert first is not None
        time_of_first = first.now_ms
        await asyncio.sleep(0.01)
        (second,) = await measure(server, wanted, [first])
        assert second is first
        assert first.now_ms > time_of_first
        await canal.publish(1)
        (third,) = await measure(server, wanted, [first])
        assert third is not first
        assert (third.published, third.branches["a"].backlog) == (1, 1)
        await asyncio.sleep(0.01)
        (fourth,) = await measure(server, wanted, [third])
        assert fourth.branches["a"].age_ms > third.branches["a"].age_ms, "what waits grows older"
        (other,) = await measure(server, [(canal.keys, ("b",))], [first])
        assert list(other.branches) == ["b"]


async def test_many_pipelines_are_measured_together_each_with_its_own_figures(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        await canal.publish(1, 2, 3)
        unknown = PipelineKeys("test", "unknown", 3)
        none, some = await measure(server, [(unknown, ("a",)), (canal.keys, ("a",))])
    assert none is not None
    assert some is not None
    assert (none.published, none.branches["a"].backlog) == (0, None)
    assert (some.published, some.branches["a"].backlog) == (3, 3)


async def test_the_age_is_that_of_the_oldest_unsettled_event_delivered_or_not(server: Server) -> None:
    async with desk(server) as canal:
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        now_ms = (await canal.measured()).now_ms
        for seconds_ago in (100, 60):
            await canal.command(lane, "XADD", lane, f"{now_ms - seconds_ago * 1000}-0", "data", "1")
        consumer = await canal.consumer()

        async def age() -> int:
            figures = (await canal.measured()).branches["a"]
            assert figures.lanes[Lane.NORMAL].age_ms == figures.age_ms
            return figures.age_ms // 10_000

        assert await age() == 10
        oldest = await take(consumer, 1)
        assert await age() == 10
        await consumer.settle([done(delivery) for delivery in oldest])
        assert await age() == 6
        newest = await take(consumer, 1)
        assert await age() == 6
        await consumer.settle([done(delivery) for delivery in newest])
        assert (await canal.measured()).branches["a"].age_ms == 0


async def test_a_lag_the_server_does_not_know_is_counted(server: Server) -> None:
    async with desk(server) as canal:
        receipts = await canal.publish(*range(20))
        await make_lag_unknown(canal, receipts[7].entry)
        figures = (await canal.measured()).branches["a"]
    assert figures.undelivered == 12
    assert figures.backlog == 12


async def test_a_lag_too_long_to_count_is_unknown_and_not_zero(server: Server) -> None:
    async with desk(server) as canal:
        receipts = await canal.publish(*range(10_020))
        await make_lag_unknown(canal, receipts[5].entry)
        figures = (await canal.measured()).branches["a"]
    assert figures.undelivered is None
    assert figures.backlog is None
    assert figures.lanes[Lane.NORMAL].backlog is None
    assert figures.lanes[Lane.HIGH].backlog == 0
    assert figures.at_least == 10_000


async def test_a_lag_that_a_trim_by_hand_made_too_high_is_counted(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(20))
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XTRIM", lane, "MAXLEN", "=", 5)
        assert (await canal.measured()).branches["a"].backlog == 5
        consumer = await canal.consumer()
        await consumer.settle([done(delivery) for delivery in await take(consumer)])
        assert (await canal.measured()).branches["a"].backlog == 0
        await canal.publish(1, 2, 3)
        assert (await canal.measured()).branches["a"].backlog == 3


async def by_hand(canal: Desk, random: Random) -> None:
    """One of the things that somebody may do to a lane."""
    lane = canal.keys.partition(0).lane(Lane.NORMAL)
    entries = [entry.decode() for entry, _ in await canal.command(lane, "XRANGE", lane, "-", "+")]
    match random.choice(["publish"] * 4 + ["read"] * 3 + ["delete", "trim", "cut", "group"]):
        case "publish":
            await canal.publish(*range(random.randint(1, 4)))
        case "read":
            group = ("GROUP", "a", "somebody", "NOACK", "COUNT", random.randint(1, 4))
            await canal.command(lane, "XREADGROUP", *group, "STREAMS", lane, ">")
        case "delete" if entries:
            await canal.command(lane, "XDEL", lane, random.choice(entries))
        case "trim":
            await canal.command(lane, "XTRIM", lane, "MAXLEN", "=", random.randint(0, 8))
        case "cut" if entries:
            await canal.command(lane, "XTRIM", lane, "MINID", "=", random.choice(entries))
        case "group" if entries:
            await canal.command(lane, "XGROUP", "DESTROY", lane, "a")
            await canal.command(lane, "XGROUP", "CREATE", lane, "a", random.choice(["$", *entries]))


async def unread(canal: Desk) -> int:
    """What the branch has not read, counted."""
    lane = canal.keys.partition(0).lane(Lane.NORMAL)
    (group,) = await canal.command(lane, "XINFO GROUPS", lane)
    last = group["last-delivered-id"].decode()
    return len(await canal.command(lane, "XRANGE", lane, f"({last}", "+"))


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_done_by_hand_the_backlog_is_never_too_low_and_zero_only_when_it_is(
    server: Server, seed: int
) -> None:
    async with desk(server) as canal:
        random = Random(seed)
        for _ in range(30):
            await by_hand(canal, random)
            there, measured = await unread(canal), (await canal.measured()).branches["a"].backlog
            assert measured is not None
            assert measured >= there
            assert (measured == 0) == (there == 0)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_done_by_hand_the_backlog_is_right_once_it_is_swept(
    server: Server, seed: int
) -> None:
    async with desk(server) as canal:
        random = Random(seed)
        for _ in range(30):
            await by_hand(canal, random)
            await sweep(server, canal.keys, None)
            assert (await canal.measured()).branches["a"].backlog == await unread(canal)


async def test_an_entry_deleted_by_hand_leaves_no_phantom_in_the_backlog(server: Server) -> None:
    async with desk(server) as canal:
        first, second = await canal.publish(1, 2)
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XDEL", lane, second.entry)
        await canal.command(lane, "XDEL", lane, first.entry)
        figures = (await canal.measured()).branches["a"]
    assert (figures.backlog, figures.age_ms) == (0, 0)


async def test_a_branch_without_its_group_is_unknown_and_the_others_are_not(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1)
        lane = canal.keys.partition(0).lane(Lane.HIGH)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "a")
        figures = (await canal.measured()).branches
    assert (figures["a"].backlog, figures["a"].at_least) == (None, 1)
    assert (figures["b"].backlog, figures["b"].at_least) == (1, 1)


async def test_a_flushed_pipeline_is_unknown(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        await remove_pipeline(server, canal.keys)
        assert (await canal.measured()).branches["a"].backlog is None


async def test_a_pipeline_that_cannot_be_measured_does_not_hide_the_others(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        await canal.publish(1)
        spoilt = PipelineKeys("test", "spoilt")
        lane = spoilt.partition(0).lane(Lane.HIGH)
        await canal.command(lane, "SET", lane, "no stream")
        told: list[tuple[int, str]] = []
        bad, good = await measure(
            server,
            [(spoilt, ("a",)), (canal.keys, ("a",))],
            failed=lambda number, error: told.append((number, str(error))),
        )
    ((number, why),) = told
    assert number == 0
    assert "WRONGTYPE" in why
    assert bad is None
    assert good is not None
    assert good.branches["a"].backlog == 1


@pytest.mark.parametrize("partitions", [1, 4])
async def test_the_doorbell_rings_for_what_is_published_after_the_measuring(
    server: Server, partitions: int
) -> None:
    async with desk(server, partitions=partitions) as canal:
        await canal.publish("before")
        doorbell = Doorbell(server)
        last_ids = (await canal.measured()).last_ids
        ring = asyncio.ensure_future(doorbell.wait(last_ids, 20))
        await canal.publish(NewEvent(data="now", lane=Lane.LOW))
        (rang,) = await ring
        assert rang in last_ids, "it says which stream rang"
        assert rang.endswith("low")
        assert await doorbell.wait(last_ids, 20), "what came between measuring and waiting rings too"


async def test_the_doorbell_hears_an_entry_made_by_hand(server: Server) -> None:
    async with desk(server) as canal:
        last_ids = (await canal.measured()).last_ids
        await canal.xadd({"data": "1"}, "high")
        assert await Doorbell(server).wait(last_ids, 20)


@pytest.mark.parametrize("partitions", [0, 1, 4])
async def test_the_doorbell_gives_up_when_nothing_is_published(server: Server, partitions: int) -> None:
    async with desk(server, partitions=max(partitions, 1)) as canal:
        await canal.publish("before")
        last_ids = (await canal.measured()).last_ids if partitions else {}
        began = time.monotonic()
        assert not await Doorbell(server).wait(last_ids, 0.2)
    assert time.monotonic() - began > 0.15
