"""again.lua: an event that is given again, by redrive or replay, makes no second record of its join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.contract import JoinContract
from headgate.event import NewEvent
from headgate.join import read_records
from headgate.streams import LetterFilter, Server, plan_replay, redrive, replay, sweep
from streams.desk import Desk, dead, desk, done, retried, take

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.streams.outcome import Delivery, Outcome

BRANCHES = ("a", "b")
JOIN = JoinContract(
    branches=BRANCHES, timeout_seconds=0
)  # a join that is open is out of time at the next sweep


async def settle(
    canal: Desk, branch: str, outcome: Callable[[Delivery], Outcome], lease: str = "w1.x"
) -> int:
    consumer = await canal.consumer(lease, branch)
    return (await consumer.settle([outcome(delivery) for delivery in await take(consumer)])).count


async def replay_all(canal: Desk, branch: str = "a") -> None:
    await replay(canal.server, canal.keys, await plan_replay(canal.server, canal.keys, branch, 0))


async def made(canal: Desk) -> list[tuple[str, bool]]:
    """The records, when joins that are open have become some too."""
    await sweep(canal.server, canal.keys, JOIN)
    return [(record.id, record.complete) for record in await read_records(canal.server, canal.keys)]


async def test_what_is_given_again_of_a_failed_join_is_late(server: Server) -> None:
    async with desk(server, BRANCHES, join=JOIN) as canal:
        await canal.publish(NewEvent(data=1, id="x"))
        await settle(canal, "a", dead)
        await settle(canal, "b", done)
        assert [moved async for moved in redrive(server, canal.keys, "a", LetterFilter())] == [1]
        assert await settle(canal, "a", retried) == 1
        assert await settle(canal, "a", done) == 1
        figures = await canal.measured()
        assert (figures.open_joins, figures.late, figures.branches["a"].backlog) == (0, 1, 0)
        assert await made(canal) == [("x", False)]


async def test_what_is_given_again_while_its_join_is_open_changes_nothing(server: Server) -> None:
    async with desk(server, BRANCHES, join=JOIN) as canal:
        await canal.publish(NewEvent(data=1, id="x"))
        await settle(canal, "a", dead)
        assert [moved async for moved in redrive(server, canal.keys, "a", LetterFilter())] == [1]
        await settle(canal, "a", done)
        await settle(canal, "b", done)
        figures = await canal.measured()
        assert (figures.open_joins, figures.late) == (0, 1)
        (record,) = await read_records(server, canal.keys)
    assert (record.id, record.failed) == ("x", {"a": "hopeless"})


async def test_a_replay_makes_no_second_record_whatever_becomes_of_its_events(server: Server) -> None:
    async with desk(server, BRANCHES, join=JOIN) as canal:
        await canal.publish(*(NewEvent(data=number, id=str(number)) for number in range(4)))
        for branch in BRANCHES:
            await settle(canal, branch, done)
        before = await made(canal)
        for turn in (1, 2):
            await replay_all(canal)
            consumer = await canal.consumer()
            first, second, third, fourth = await take(consumer)
            await consumer.settle([done(first), dead(second), retried(third), retried(fourth)])
            third, fourth = await take(consumer)
            await consumer.settle([done(third), retried(fourth)])
            assert await settle(canal, "a", done) == 1
            assert (await canal.measured()).late == 4 * turn
            assert await made(canal) == before
    assert before == [(str(number), True) for number in range(4)]


async def test_what_was_being_handled_when_the_replay_began_makes_its_record_once(server: Server) -> None:
    async with desk(server, BRANCHES, join=JOIN) as canal:
        await canal.publish(NewEvent(data=1, id="x"), NewEvent(data=2, id="y"))
        busy = await canal.consumer("busy.x")
        x, y = await take(busy)
        await replay_all(canal)
        assert (await busy.settle([done(x), retried(y)])).count == 2
        await settle(canal, "b", done)
        # Now x is whole, and comes again; y is tried again, and comes again besides.
        assert await settle(canal, "a", done, "w2.x") == 3
        assert await made(canal) == [("x", True), ("y", True)]


async def test_a_second_replay_knows_what_the_first_gave_again(server: Server) -> None:
    async with desk(server, BRANCHES, join=JOIN) as canal:
        await canal.publish(*(NewEvent(data=number, id=str(number)) for number in range(3)))
        for branch in BRANCHES:
            await settle(canal, branch, done)
        await replay_all(canal)
        busy = await canal.consumer("busy.x")
        held = await take(busy, 2)
        await replay_all(canal)
        await busy.settle([done(delivery) for delivery in held])
        assert await settle(canal, "a", done) == 3
        assert await made(canal) == [(str(number), True) for number in range(3)]
        assert (await canal.measured()).late == 5


async def test_new_events_after_a_replay_join_as_ever(server: Server) -> None:
    async with desk(server, BRANCHES, join=JOIN) as canal:
        await canal.publish(NewEvent(data=1, id="x"))
        for branch in BRANCHES:
            await settle(canal, branch, done)
        await replay_all(canal)
        await canal.publish(NewEvent(data=2, id="y"))
        for branch in BRANCHES:
            await settle(canal, branch, done)
        assert await made(canal) == [("x", True), ("y", True)]
