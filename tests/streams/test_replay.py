"""replay.lua: a branch reads again what the source keeps, and no other branch notices."""

from __future__ import annotations

import time

import pytest

from headgate.event import Lane
from headgate.streams import (
    NotProvisionedError,
    PipelineKeys,
    Server,
    SourceSettings,
    ensure_groups,
    plan_replay,
    replay,
    sweep,
)
from headgate.streams.replay import server_ms
from streams.desk import desk, done, take
from streams.sources import EARLY_MS, LATE_MS, publish_at, settle_all

BRANCHES = ("a", "b")


def expected(ms: int, count: int) -> list[str]:
    return [f"{ms}-{number}" for number in range(count)]


async def test_a_branch_reads_again_from_a_time_on_with_an_exact_lag(server: Server) -> None:
    async with desk(server, BRANCHES, partitions=2) as canal:
        for partition in range(2):
            await publish_at(canal, EARLY_MS, 30, partition=partition)
            await publish_at(canal, LATE_MS, 20, partition=partition)
            await publish_at(canal, LATE_MS, 3, Lane.HIGH, partition)
            await settle_all(canal, "a", partition)
        plan = await plan_replay(server, canal.keys, "a", LATE_MS)
        assert (plan.entries, plan.reaches_ms) == ((23, 23), 0)
        assert (await canal.measured()).branches["a"].backlog == 0
        assert await replay(server, canal.keys, plan) == 46
        figures = (await canal.measured()).branches
        assert (figures["a"].undelivered, figures["b"].undelivered) == (46, 106)
        for partition in range(2):
            again = await settle_all(canal, "a", partition)
            assert again == expected(LATE_MS, 3) + expected(LATE_MS, 20)
        assert (await canal.measured()).branches["a"].backlog == 0


@pytest.mark.parametrize("unread", [0, 2500])
async def test_replaying_thousands_keeps_the_lag_exact_whatever_was_not_read_yet(
    server: Server, unread: int
) -> None:
    async with desk(server, BRANCHES) as canal:
        await canal.publish(*range(4500))
        await settle_all(canal, "a")
        await canal.publish(*range(unread))
        plan = await plan_replay(server, canal.keys, "a", 0)
        assert plan.entries == (4500,)
        await canal.publish("meanwhile")
        await replay(server, canal.keys, plan)
        assert (await canal.measured()).branches["a"].undelivered == 4500 + unread + 1
        assert len(await settle_all(canal, "a")) == 4500 + unread + 1
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_a_lag_the_server_does_not_know_is_counted(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 10)
        await settle_all(canal, "a")
        await publish_at(canal, LATE_MS, 5)
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XDEL", lane, f"{LATE_MS}-2")
        plan = await plan_replay(server, canal.keys, "a", EARLY_MS)
        assert plan.entries == (10,)
        await replay(server, canal.keys, plan)
        assert (await canal.measured()).branches["a"].undelivered == 14


async def test_a_branch_is_never_put_forward(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 10)
        await publish_at(canal, LATE_MS, 10)
        assert len(await take(await canal.consumer(), 5)) == 5
        plan = await plan_replay(server, canal.keys, "a", LATE_MS)
        assert plan.entries == (0,)
        before = await canal.snapshot()
        await replay(server, canal.keys, plan)
        assert await canal.snapshot() == before


async def test_replaying_twice_does_it_once(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 10)
        await settle_all(canal, "a")
        plan = await plan_replay(server, canal.keys, "a", EARLY_MS)
        await replay(server, canal.keys, plan)
        before = await canal.snapshot()
        await replay(server, canal.keys, plan)
        assert await canal.snapshot() == before


async def test_what_is_being_handled_is_given_once_more_and_settled_once(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 2)
        first, second = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        held = await take(first)
        await replay(server, canal.keys, await plan_replay(server, canal.keys, "a", EARLY_MS))
        again = await take(second)
        assert [d.entry for d in again] == [d.entry for d in held]
        assert (await second.settle([done(d) for d in again])).count == 2
        assert (await first.settle([done(d) for d in held])).count == 0
        figure = (await canal.measured()).branches["a"]
    assert (figure.backlog, figure.done) == (0, 2)


async def test_nothing_is_trimmed_that_is_to_be_read_again(server: Server) -> None:
    async with desk(server, BRANCHES) as canal:
        await ensure_groups(server, canal.keys, BRANCHES, SourceSettings(keep_seconds=3600))
        now = int(time.time() * 1000)
        await publish_at(canal, now - 60_000, 500)
        for branch in BRANCHES:
            await settle_all(canal, branch)
        await replay(server, canal.keys, await plan_replay(server, canal.keys, "a", now - 120_000))
        await ensure_groups(server, canal.keys, BRANCHES, SourceSettings(keep_seconds=0))
        assert (await sweep(server, canal.keys, None)).trimmed == 0
        assert len(await settle_all(canal, "a")) == 500


async def test_a_group_that_is_lost_after_a_replay_still_reads_all_of_it_again(server: Server) -> None:
    async with desk(server) as canal:
        recently = int(time.time() * 1000) - 60_000
        await publish_at(canal, recently, 5)
        await settle_all(canal, "a")
        await sweep(server, canal.keys, None)
        await replay(server, canal.keys, await plan_replay(server, canal.keys, "a", recently))
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "a")
        await ensure_groups(server, canal.keys, ["a"])
        assert await settle_all(canal, "a") == expected(recently, 5)


async def test_what_was_trimmed_between_plan_and_replay_is_not_waited_for(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 5)
        await publish_at(canal, LATE_MS, 5)
        await settle_all(canal, "a")
        plan = await plan_replay(server, canal.keys, "a", 0)
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XTRIM", lane, "MAXLEN", 3)
        await replay(server, canal.keys, plan)
        (group,) = await canal.command(lane, "XINFO", "GROUPS", lane)
        assert group[group.index(b"lag") + 1] == 3
        assert len(await settle_all(canal, "a")) == 3
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_a_branch_that_is_not_there_is_named(server: Server) -> None:
    async with desk(server) as canal:
        with pytest.raises(NotProvisionedError, match="no branch 'unknown'"):
            await plan_replay(server, canal.keys, "unknown", 0)
        plan = await plan_replay(server, canal.keys, "a", 0)
        lane = canal.keys.partition(0).lane(Lane.LOW)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "a")
        before = await canal.snapshot()
        with pytest.raises(NotProvisionedError):
            await replay(server, canal.keys, plan)
        assert await canal.snapshot() == before


async def test_the_servers_time_is_the_one_that_entries_have(server: Server) -> None:
    async with desk(server) as canal:
        (receipt,) = await canal.publish(1)
        later = await server_ms(server, PipelineKeys("test", "unknown"))
        assert 0 <= later - int(receipt.entry.partition("-")[0]) < 60_000
