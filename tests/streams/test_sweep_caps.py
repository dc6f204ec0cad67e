"""sweep.lua: what is kept for replays, and the hard caps; what they take from a branch is counted, never silent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.event import Lane
from headgate.streams import Server, SourceSettings, Swept, ensure_groups, sweep
from headgate.streams.script import SWEEP
from headgate.streams.server import Call
from streams.desk import Desk, dead, desk, done, take

if TYPE_CHECKING:
    from headgate.streams.consumer import Consumer

HOUR_MS = 3_600_000
BRANCHES = ("a", "b")


async def provision(canal: Desk, **settings: Any) -> None:
    await ensure_groups(canal.server, canal.keys, canal.branches, SourceSettings(**settings))


async def publish_at(canal: Desk, ms: int, count: int, lane: Lane = Lane.NORMAL) -> None:
    stream = canal.keys.partition(0).lane(lane)
    for number in range(count):
        await canal.command(stream, "XADD", stream, f"{ms}-{number + 1}", "data", number)


async def settle_all(canal: Desk, branch: str, limit: int = 10_000) -> int:
    consumer, settled = await canal.consumer("w1.x", branch), 0
    while settled < limit and (deliveries := await take(consumer, min(100, limit - settled))):
        settled += (await consumer.settle([done(delivery) for delivery in deliveries])).count
    return settled


async def length(canal: Desk, lane: Lane = Lane.NORMAL) -> int:
    stream = canal.keys.partition(0).lane(lane)
    found: int = await canal.command(stream, "XLEN", stream)
    return found


async def swept(canal: Desk) -> Swept:
    """A sweep, and another that has nothing left to do."""
    first = await sweep(canal.server, canal.keys, None)
    before = await canal.snapshot()
    assert await sweep(canal.server, canal.keys, None) == Swept()
    assert await canal.snapshot() == before
    return first


def now_ms() -> int:
    return int(time.time() * 1000)


async def test_settled_events_are_kept_as_long_as_the_manifest_says(server: Server) -> None:
    async with desk(server, BRANCHES) as canal:
        await provision(canal, keep_seconds=3600)
        await publish_at(canal, now_ms() - 2 * HOUR_MS, 300)
        await publish_at(canal, now_ms() - HOUR_MS // 2, 300)
        for branch in BRANCHES:
            assert await settle_all(canal, branch) == 600
        assert 200 <= (await swept(canal)).trimmed <= 300
        assert await length(canal) >= 300
        await provision(canal, keep_seconds=0)
        assert (await swept(canal)).trimmed >= 200
        figures = await canal.measured()
    assert [branch.undelivered for branch in figures.branches.values()] == [0, 0]


async def test_what_is_older_than_the_cap_goes_though_a_branch_has_not_read_it_and_is_counted(
    server: Server,
) -> None:
    async with desk(server, BRANCHES) as canal:
        await provision(canal, max_age_seconds=3600)
        await publish_at(canal, now_ms() - 2 * HOUR_MS, 150)
        await publish_at(canal, now_ms(), 20)
        assert await settle_all(canal, "a", 130) == 130
        found = await swept(canal)
        assert (found.trimmed, found.lost) == (150, {"a": 20, "b": 150})
        figures = (await canal.measured()).branches
        assert {name: branch.unread_trimmed for name, branch in figures.items()} == {"a": 20, "b": 150}
        assert {name: branch.undelivered for name, branch in figures.items()} == {"a": 20, "b": 20}
        for branch in BRANCHES:
            assert await settle_all(canal, branch) == 20
            assert (await canal.measured()).branches[branch].backlog == 0


async def test_a_quiet_source_is_emptied_by_the_age_cap_and_goes_on_with_an_exact_lag(server: Server) -> None:
    async with desk(server, BRANCHES) as canal:
        await provision(canal, max_age_seconds=3600)
        await publish_at(canal, now_ms() - 2 * HOUR_MS, 3)
        assert (await swept(canal)).lost == {"a": 3, "b": 3}
        assert await length(canal) == 0
        assert [branch.backlog for branch in (await canal.measured()).branches.values()] == [0, 0]
        await canal.publish("after")
        assert [branch.backlog for branch in (await canal.measured()).branches.values()] == [1, 1]
        assert [delivery.event.data for delivery in await take(await canal.consumer())] == ["after"]


async def test_no_lane_has_more_than_its_partitions_share(server: Server) -> None:
    async with desk(server, BRANCHES, partitions=4) as canal:
        await provision(canal, max_events=402)
        await publish_at(canal, now_ms(), 250)
        await publish_at(canal, now_ms(), 101, Lane.LOW)
        assert await settle_all(canal, "a") == 351
        found = await swept(canal)
        assert (found.trimmed, found.lost) == (149, {"b": 149})
        assert (await length(canal), await length(canal, Lane.LOW)) == (101, 101)
        figures = (await canal.measured()).branches
        assert (figures["a"].backlog, figures["b"].backlog) == (0, 202)
        assert await settle_all(canal, "b") == 202


async def test_the_lag_stays_exact_over_many_caps_while_a_branch_reads(server: Server) -> None:
    async with desk(server, BRANCHES) as canal:
        await provision(canal, max_events=100)
        read, lost = 0, 0
        for turn in range(6):
            await publish_at(canal, now_ms() + turn, 150)
            read += await settle_all(canal, "b", 40)
            lost += (await sweep(server, canal.keys, None)).lost["b"]
            assert (await canal.measured()).branches["b"].undelivered == 900 - (5 - turn) * 150 - read - lost
        read += await settle_all(canal, "b")
        figure = (await canal.measured()).branches["b"]
    assert figure.backlog == 0
    assert read + lost == 900
    assert figure.unread_trimmed == lost


async def take_held(canal: Desk, lease: str, count: int) -> Consumer:
    consumer = await canal.consumer(lease)
    assert len(await take(consumer, count)) == count
    return consumer


async def test_what_a_dead_worker_held_when_the_cap_took_it_does_not_stay_pending(server: Server) -> None:
    async with desk(server) as canal:
        await provision(canal, max_events=10)
        await publish_at(canal, now_ms(), 60)
        gone = await take_held(canal, "gone.x", 55)
        await gone.release()
        assert (await sweep(server, canal.keys, None)).lost == {"a": 50}
        figure = (await canal.measured()).branches["a"]
        assert (figure.pending, figure.undelivered) == (5, 5)
        heir = await canal.consumer("heir.x")
        claimed = await heir.beat(100)
        assert len(claimed) == 5
        await heir.settle([done(delivery) for delivery in (*claimed, *await take(heir))])
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_a_live_worker_settles_what_the_cap_took_under_its_hands(server: Server) -> None:
    async with desk(server) as canal:
        await provision(canal, max_events=1)
        await publish_at(canal, now_ms(), 3)
        consumer = await canal.consumer()
        first, second, third = await take(consumer)
        assert (await sweep(server, canal.keys, None)).lost == {"a": 2}
        assert (await consumer.settle([done(first), dead(second), done(third)])).count == 3
        figure = (await canal.measured()).branches["a"]
    assert (figure.backlog, figure.dead_letters) == (0, 1)


async def test_what_a_live_worker_never_got_and_the_cap_took_does_not_stay_pending(server: Server) -> None:
    async with desk(server) as canal:
        await provision(canal, max_events=1)
        await publish_at(canal, now_ms(), 3)
        consumer = await take_held(canal, "w1.x", 3)
        assert (await sweep(server, canal.keys, None)).lost == {"a": 2}
        assert (await canal.measured()).branches["a"].pending == 3
        (left,) = await consumer.recover(())
        assert (await canal.measured()).branches["a"].pending == 1
        assert (await consumer.settle([done(left)])).count == 1
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_a_branch_whose_group_is_lost_is_counted_too(server: Server) -> None:
    async with desk(server, BRANCHES) as canal:
        await provision(canal, max_events=10)
        await sweep(server, canal.keys, None)
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "b")
        await publish_at(canal, now_ms(), 30)
        assert (await sweep(server, canal.keys, None)).lost == {"a": 20, "b": 20}


async def test_where_a_place_is_not_known_more_is_counted_and_never_less(server: Server) -> None:
    async with desk(server) as canal:
        await provision(canal, max_events=10)
        await publish_at(canal, now_ms(), 40)
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        (entry, _), *_ = await canal.command(lane, "XRANGE", lane, "-", "+", "COUNT", 30)
        await canal.command(lane, "XDEL", lane, entry)
        assert (await sweep(server, canal.keys, None)).lost == {"a": 29}
        assert (await canal.measured()).branches["a"].undelivered == 10


@pytest.mark.parametrize("kept", [0, 2])
async def test_too_many_dead_letters_go_from_the_oldest_and_are_counted(server: Server, kept: int) -> None:
    async with desk(server, BRANCHES) as canal:
        await canal.publish(*range(5))
        consumer = await canal.consumer()
        await consumer.settle([dead(delivery) for delivery in await take(consumer)])
        partition = canal.keys.partition(0)
        call = Call(
            SWEEP, (*partition.lanes, partition.settings, partition.stats, f"{partition.tag}:"), (kept,)
        )
        (reply,) = await server.run_all([call])
        assert reply[2] == [b"a", 5 - kept]
        figure = (await canal.measured()).branches["a"]
    assert (figure.dead_letters, figure.dead_dropped) == (kept, 5 - kept)
