"""ensure.lua: the groups of a pipeline, made and removed."""

from __future__ import annotations

from headgate.event import Lane, NewEvent
from headgate.streams import (
    Gate,
    PipelineKeys,
    Publisher,
    Server,
    ensure_groups,
    read_dead_letters,
    remove_pipeline,
    set_gate,
)
from streams.desk import dead, desk, retried, take
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


async def test_one_lost_group_is_made_again(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        lane = canal.keys.partition(0).lane(Lane.LOW)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "b")
        assert (await canal.measured()).branches["b"].backlog is None
        assert (await ensure_groups(server, canal.keys, ["a", "b"])).changes == 1
        assert (await canal.measured()).branches["b"].backlog == 0


async def test_a_flushed_server_is_measured_as_unknown_until_its_groups_are_there_again(
    server: Server,
) -> None:
    async with desk(server, ("a", "b")) as canal:
        flush(server.url)
        assert [branch.backlog for branch in (await canal.measured()).branches.values()] == [None, None]
        await ensure_groups(server, canal.keys, ["a", "b"])
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
