"""sweep.lua: the source keeps what any branch has not settled, and lets go of the rest. Its joins: test_join.py."""

from __future__ import annotations

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import Server, Swept, ensure_groups, sweep
from streams.desk import Desk, desk, done, take

MANY = 1000  # entries; a trim removes whole nodes of 100


async def settle(canal: Desk, branch: str, count: int) -> list:
    consumer = await canal.consumer("w1.x", branch)
    read = []
    while len(read) < count and (deliveries := await take(consumer, min(250, count - len(read)))):
        await consumer.settle([done(delivery) for delivery in deliveries])
        read += [delivery.event.data for delivery in deliveries]
    return read


async def test_what_every_branch_settled_is_trimmed_and_trimming_again_changes_nothing(
    server: Server,
) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(*range(MANY))
        await settle(canal, "a", MANY)
        await settle(canal, "b", MANY)
        trimmed = (await sweep(server, canal.keys, None)).trimmed
        assert MANY - 200 < trimmed < MANY
        before = await canal.snapshot()
        assert await sweep(server, canal.keys, None) == Swept()
        assert await canal.snapshot() == before
        figures = await canal.measured()
    assert figures.published == MANY
    assert figures.branches["a"].backlog == 0


@pytest.mark.parametrize(("fast", "slow"), [("a", "b"), ("b", "a")])
async def test_a_slow_branch_loses_nothing(server: Server, fast: str, slow: str) -> None:
    async with desk(server, (fast, slow)) as canal:
        await canal.publish(*range(MANY))
        await settle(canal, fast, MANY)
        first = await settle(canal, slow, MANY // 2)
        trimmed = (await sweep(server, canal.keys, None)).trimmed
        assert 0 < trimmed < MANY // 2
        assert (await canal.measured()).branches[slow].undelivered == MANY // 2
        assert first + await settle(canal, slow, MANY) == list(range(MANY))


async def test_one_event_still_being_handled_keeps_all_after_it(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(MANY))
        busy = await canal.consumer("busy.x")
        (held,) = await take(busy, 1)
        await settle(canal, "a", MANY)
        assert await sweep(server, canal.keys, None) == Swept()
        await busy.release()
        (claimed,) = await (await canal.consumer("heir.x")).beat(10)
        assert claimed.event.data == held.event.data == 0


async def test_nothing_is_trimmed_while_a_branch_has_no_group(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish(*range(MANY))
        await ensure_groups(server, canal.keys, ["a", "b"])
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XGROUP", "DESTROY", lane, "b")
        await settle(canal, "a", MANY)
        assert await sweep(server, canal.keys, None) == Swept()


async def test_nothing_is_trimmed_while_there_is_no_group_at_all(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        await canal.publish(*range(MANY))
        await settle(canal, "a", MANY)
        await ensure_groups(server, canal.keys, [])
        assert await sweep(server, canal.keys, None) == Swept()


async def test_every_lane_of_every_partition_is_trimmed(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        await canal.publish(
            *(NewEvent(data=n, id=str(n), lane=lane) for lane in Lane for n in range(MANY * 4)), *()
        )
        # Equal ids are duplicates within a partition, whatever the lane: only the first lane's count.
        assert (await canal.measured()).published == MANY * 4
        for partition in range(4):
            consumer = await canal.consumer("w1.x", partition=partition)
            while deliveries := await take(consumer, 500):
                await consumer.settle([done(delivery) for delivery in deliveries])
        trimmed = (await sweep(server, canal.keys, None)).trimmed
    assert trimmed > MANY * 4 - 4 * 200


async def test_sweeping_a_pipeline_that_is_not_there_does_nothing(server: Server) -> None:
    async with desk(server, ("a",)) as canal:
        other = type(canal.keys)("test", "unknown", 2)
        before = await canal.snapshot()
        assert await sweep(server, other, None) == Swept()
        assert await canal.snapshot() == before
