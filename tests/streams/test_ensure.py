"""ensure.lua: the groups of a pipeline, made and removed."""

from __future__ import annotations

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import (
    BranchStart,
    Ensured,
    Gate,
    PipelineKeys,
    Publisher,
    Server,
    ensure_groups,
    read_dead_letters,
    remove_pipeline,
    set_gate,
    sweep,
)
from streams.desk import dead, desk, done, retried, take
from streams.servers import flush


async def test_every_partition_gets_its_groups_and_a_second_call_changes_nothing(server: Server) -> None:
    keys = PipelineKeys("test", "canal", 4)
    assert (await ensure_groups(server, keys, ["a", "b"])).changes == 4 * 2 * 4
    async with desk(server, ("a", "b"), partitions=4) as canal:
        before = await canal.snapshot()
        assert (await ensure_groups(server, keys, ["a", "b"])).changes == 0
        assert await canal.snapshot() == before


async def test_the_first_branches_get_all_that_was_published_before(server: Server) -> None:
    await Publisher(server, PipelineKeys("test", "canal")).publish([NewEvent(data=n) for n in range(3)])
    async with desk(server, ("a", "b")) as canal:
        for branch in ("a", "b"):
            read = await take(await canal.consumer(branch=branch))
            assert [delivery.event.data for delivery in read] == [0, 1, 2], branch


async def test_a_branch_that_joins_later_starts_at_the_newest_with_an_exact_lag(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish(*range(5))
        await ensure_groups(server, canal.keys, ["a", "b"])
        canal.branches = ("a", "b")
        assert (await canal.measured()).branches["b"].undelivered == 0
        await canal.publish("new")
        assert (await canal.measured()).branches["b"].undelivered == 1
        read = await take(await canal.consumer(branch="b"))
    assert [delivery.event.data for delivery in read] == ["new"]


async def test_a_branch_no_longer_named_goes_but_for_its_dead_letters(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish("hopeless", "later")
        consumer = await canal.consumer(branch="b")
        first, second = await take(consumer)
        await consumer.settle([dead(first), retried(second, 60_000)])
        await set_gate(server, canal.keys, "b", Gate(delayed=frozenset({Lane.LOW})), 60)
        assert (await ensure_groups(server, canal.keys, ["a"])).changes == 3
        left = {name.decode() for name in await canal.snapshot()}
        partition = canal.keys.partition(0)
        assert left.isdisjoint(
            {partition.retry("b"), partition.delayed("b"), partition.gate("b"), partition.beats("b")}
        )
        assert partition.retry("a") in left
        assert [letter.data for letter in await read_dead_letters(server, canal.keys, "b")] == ["hopeless"]
        assert (await canal.measured()).branches["a"].undelivered == 2
        assert (await ensure_groups(server, canal.keys, ["a"])).changes == 0


async def test_a_branch_starts_at_the_beginning_of_what_is_kept_when_asked_to(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish(*range(5))
        await ensure_groups(server, canal.keys, ["a", BranchStart("b", "Beginning")])
        canal.branches = ("a", "b")
        assert (await canal.measured()).branches["b"].undelivered == 5
        read = await take(await canal.consumer(branch="b"))
    assert [delivery.event.data for delivery in read] == list(range(5))


@pytest.mark.parametrize("behind", [30, 5000])
async def test_a_branch_starts_at_a_time_with_an_exact_lag_however_much_lies_behind_it(
    server: Server, behind: int
) -> None:
    async with desk(server, ("a",)) as canal:
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        for number in range(20):
            await canal.command(lane, "XADD", lane, f"1700000000000-{number + 1}", "data", "early")
        await canal.command(lane, "XADD", lane, "1700000001000-0", "data", '"first"')
        await canal.publish(*range(behind - 1))
        made = await ensure_groups(server, canal.keys, ["a", BranchStart("b", "2023-11-14T22:13:21Z")])
        assert made == Ensured(changes=4, made=("b",))
        canal.branches = ("a", "b")
        assert (await canal.measured()).branches["b"].undelivered == behind
        consumer = await canal.consumer(branch="b")
        (first,) = await take(consumer, 1)
        assert first.event.data == "first"
        assert (await canal.measured()).branches["b"].undelivered == behind - 1


async def test_a_time_to_come_is_now(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish(1, 2)
        await ensure_groups(server, canal.keys, ["a", BranchStart("b", "2999-01-01T00:00:00+01:00")])
        canal.branches = ("a", "b")
        await canal.publish("new")
        assert (await canal.measured()).branches["b"].undelivered == 1
        assert [d.event.data for d in await take(await canal.consumer(branch="b"))] == ["new"]


async def test_a_start_that_is_no_time_is_refused_with_an_example(server: Server) -> None:
    keys = PipelineKeys("test", "canal")
    for start in ("now", "yesterday", "2026-11-21T10:00:00"):
        with pytest.raises(ValueError, match=f"'{start}' is no time with a zone, such as"):
            await ensure_groups(server, keys, [BranchStart("a", start)])


async def test_where_a_branch_starts_is_read_once(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish(1, 2)
        assert len(await take(await canal.consumer())) == 2
        assert await ensure_groups(server, canal.keys, [BranchStart("a", "Beginning")]) == Ensured()
        assert (await canal.measured()).branches["a"].undelivered == 0


async def test_one_lost_group_is_made_again(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        lane = canal.keys.partition(0).lane(Lane.LOW)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "b")
        assert (await canal.measured()).branches["b"].backlog is None
        assert await ensure_groups(server, canal.keys, ["a", "b"]) == Ensured(1, ("b",), ("b",))
        assert (await canal.measured()).branches["b"].backlog == 0


async def test_a_lost_group_goes_on_where_it_had_settled_everything_and_loses_nothing(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(*range(3000))
        consumer = await canal.consumer(branch="b")
        first = await take(consumer, 10)
        await consumer.settle([done(delivery) for delivery in (*first[:4], first[8])])
        await sweep(server, canal.keys, None)
        await consumer.settle([done(delivery) for delivery in first[4:6]])
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "b")
        assert await ensure_groups(server, canal.keys, ["a", "b"]) == Ensured(1, ("b",), ("b",))
        assert (await canal.measured()).branches["b"].undelivered == 2996
        again = await take(await canal.consumer("w2.x", branch="b"), 10)
        assert [delivery.event.data for delivery in again] == list(range(4, 14))
        assert (await canal.measured()).branches["a"].undelivered == 3000


async def test_a_group_that_is_lost_before_any_sweep_starts_where_it_had_started(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish("before")
        await ensure_groups(server, canal.keys, ["a", "b"])
        await canal.publish("after")
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "b")
        assert (await ensure_groups(server, canal.keys, ["a", "b"])).healed == ("b",)
        assert [d.event.data for d in await take(await canal.consumer(branch="b"))] == ["after"]


async def test_a_lane_that_is_lost_whole_starts_anew_and_its_new_events_are_read(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XADD", lane, "99999999999999-0", "data", "1")
        consumer = await canal.consumer()
        await consumer.settle([done(delivery) for delivery in await take(consumer)])
        await sweep(server, canal.keys, None)
        await canal.command(lane, "DEL", lane)
        await canal.publish("after")
        assert (await ensure_groups(server, canal.keys, ["a"])).healed == ("a",)
        assert (await canal.measured()).branches["a"].undelivered == 1
        assert [d.event.data for d in await take(await canal.consumer("w2.x"))] == ["after"]


async def test_a_branch_that_left_and_comes_back_is_a_new_one(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish("before")
        await ensure_groups(server, canal.keys, ["a"])
        assert await ensure_groups(server, canal.keys, ["a", "b"]) == Ensured(4, ("b",))
        await canal.publish("after")
        assert [d.event.data for d in await take(await canal.consumer(branch="b"))] == ["after"]


async def test_a_branch_that_leaves_takes_along_what_its_keys_held_back(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        partition = canal.keys.partition(0)
        await canal.command(partition.blocked("b"), "HSET", partition.blocked("b"), "k 1", "id")
        await canal.command(partition.parked("b"), "RPUSH", partition.parked("b", "k 1"), "1:x")
        await canal.command(partition.stats, "HSET", partition.stats, "parked:b", 1, "done:b", 2)
        before = set(await canal.snapshot())
        await ensure_groups(server, canal.keys, ["a"])
        gone = {partition.blocked("b"), partition.parked("b", "k 1"), partition.retry("b")}
        assert before - set(await canal.snapshot()) == {name.encode() for name in gone}
        counters = await canal.command(partition.stats, "HKEYS", partition.stats)
        assert counters == [b"done:b"]


async def test_a_flushed_server_is_measured_as_unknown_until_its_groups_are_there_again(
    server: Server,
) -> None:
    async with desk(server, ("a", "b")) as canal:
        flush(server.url)
        assert [branch.backlog for branch in (await canal.measured()).branches.values()] == [None, None]
        assert await ensure_groups(server, canal.keys, ["a", "b"]) == Ensured(8, ("a", "b"))
        assert [branch.backlog for branch in (await canal.measured()).branches.values()] == [0, 0]


async def test_removing_a_pipeline_removes_all_its_keys_and_no_others(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        await canal.publish(*range(30))
        others = [PipelineKeys("test", "canal-2"), PipelineKeys("test2", "canal")]
        for keys in others:
            await ensure_groups(server, keys, ["a"])
        removed = await remove_pipeline(server, PipelineKeys("test", "canal", 1))
        assert removed == 4 * 5 + 30
        left = set(await canal.snapshot())
        assert left == {
            name.encode()
            for keys in others
            for name in (*keys.partition(0).lanes, keys.partition(0).retry("a"), keys.partition(0).settings)
        }
        assert await remove_pipeline(server, canal.keys) == 0
