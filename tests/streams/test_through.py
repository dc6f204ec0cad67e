"""through.lua: whether a branch is through with what a partition had when others were added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.contract import Ordering
from headgate.event import Lane, NewEvent
from headgate.streams import Removal, ensure_groups
from headgate.streams.script import THROUGH
from headgate.streams.server import Call
from streams.desk import Desk, desk, done, retried, take

if TYPE_CHECKING:
    from headgate.streams import Server


async def ask(canal: Desk, branch: str = "a") -> list[Any]:
    partition = canal.keys.partition(0)
    call = Call(THROUGH, (*partition.lanes, partition.settings, partition.blocked(branch)), (branch,))
    (reply,) = await canal.server.run_all([call])
    assert not isinstance(reply, Exception), reply
    return list(reply)


async def grow(canal: Desk, *branches: str, removal: Removal = Removal()) -> None:  # noqa: B008 - frozen
    grown = canal.keys.with_partitions(canal.keys.partitions + 1)
    await ensure_groups(canal.server, grown, branches, removal=removal)


async def test_before_any_partition_was_added_there_is_nothing_to_be_through_with(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        assert await ask(canal) == [1]


async def test_every_lane_has_to_be_read_and_settled_up_to_there_and_no_further(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*(NewEvent(data=lane.value, lane=lane, key="k") for lane in Lane))
        await grow(canal, "a")
        stay = next(f"s{n}" for n in range(99) if canal.keys.with_partitions(2).partition_of(f"s{n}") == 0)
        await canal.publish(*(NewEvent(data="after", lane=lane, key=stay) for lane in Lane))
        consumer = await canal.consumer()
        assert await ask(canal) == [0]
        held = await take(consumer)
        before = [each for each in held if each.event.data != "after"]
        assert (len(held), len(before)) == (6, 3)
        for each in before:
            assert await ask(canal) == [0]
            await consumer.settle([done(each)])
        assert await ask(canal) == [1]


async def test_keys_that_wait_for_another_attempt_are_named(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(NewEvent(data=1, key="first"), NewEvent(data=2, key="second"))
        await grow(canal, "a")
        consumer = await canal.consumer(ordering=Ordering.KEY)
        await consumer.settle([retried(each, 60_000) for each in await take(consumer)])
        through, *blocked = await ask(canal)
        assert (through, sorted(blocked)) == (1, [b"first", b"second"])


async def test_what_was_trimmed_or_is_another_branchs_is_not_waited_for(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1, 2)
        await grow(canal, "a", "b")
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        consumer = await canal.consumer(branch="b")
        await consumer.settle([done(each) for each in await take(consumer)])
        assert (await ask(canal, "a"), await ask(canal, "b")) == ([0], [1])
        await canal.command(lane, "XTRIM", lane, "MAXLEN", 0)
        assert await ask(canal, "a") == [1]


async def test_of_a_branch_that_drains_it_is_where_that_really_is(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1, 2)
        await grow(canal, "a", "b")
        await grow(canal, "a", removal=Removal(drain=True))
        consumer = await canal.consumer(branch="b")
        assert await ask(canal, "b") == [0]
        await consumer.settle([done(each) for each in await take(consumer)])
        assert await ask(canal, "b") == [1]
