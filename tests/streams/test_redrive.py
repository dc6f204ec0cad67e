"""redrive.lua: dead letters given to their branch again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import (
    LetterFilter,
    NotProvisionedError,
    Server,
    ensure_groups,
    purge,
    read_dead_letters,
    redrive,
)
from headgate.streams.deadletters import JOIN
from headgate.streams.script import REDRIVE
from headgate.streams.server import Call
from streams.desk import Desk, dead, desk, done, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVERY = LetterFilter()


async def bury(canal: Desk, *events: Any, error: bytes = b"hopeless", branch: str = "a") -> None:
    """Publishes events that become dead letters of a branch; its other partitions' too."""
    await canal.publish(*events)
    for number in range(canal.keys.partitions):
        consumer = await canal.consumer("grave.digger", branch, number)
        while deliveries := await take(consumer):
            await consumer.settle([dead(delivery, error) for delivery in deliveries])
        await consumer.release()


async def through(numbers: AsyncIterator[int]) -> list[int]:
    return [number async for number in numbers]


async def ids(canal: Desk, wanted: LetterFilter = EVERY, branch: str = "a") -> set[str]:
    letters = await read_dead_letters(canal.server, canal.keys, branch, 1000, wanted)
    return {letter.id for letter in letters}


async def test_a_dead_letter_is_given_again_whole_and_as_a_first_attempt(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        event = NewEvent(
            data={"n": 1}, id="x", type="t", source="s", key="k", lane=Lane.HIGH, traceparent="00-1-2-01"
        )
        await canal.publish(event)
        consumer = await canal.consumer()
        (before,) = await take(consumer)
        await consumer.settle([dead(before)])
        assert await through(redrive(server, canal.keys, "a", EVERY)) == [1]
        assert await ids(canal) == set()
        (again,) = await take(consumer)
        for name in ("id", "type", "source", "key", "lane", "traceparent", "body", "published_ms"):
            assert getattr(again.event, name) == getattr(before.event, name), name
        assert again.event.attempt == 1
        await consumer.settle([done(again)])
        figures = (await canal.measured()).branches
        assert (figures["a"].backlog, figures["a"].done, figures["a"].redriven) == (0, 1, 1)
        assert figures["b"].undelivered == 1


async def test_one_that_fails_again_is_a_dead_letter_again_with_its_new_error(server: Server) -> None:
    async with desk(server) as canal:
        await bury(canal, NewEvent(data=1, id="x"))
        await through(redrive(server, canal.keys, "a", EVERY))
        consumer = await canal.consumer()
        (again,) = await take(consumer)
        await consumer.settle([dead(again, b"worse")])
        (letter,) = await read_dead_letters(server, canal.keys, "a")
    assert (letter.id, letter.error, letter.attempts, letter.data) == ("x", "worse", 1, 1)


async def test_an_id_that_is_gone_does_nothing(server: Server) -> None:
    async with desk(server) as canal:
        await bury(canal, 1, 2)
        partition = canal.keys.partition(0)
        letters = await read_dead_letters(server, canal.keys, "a")
        names = (
            partition.dead("a"),
            partition.retry("a"),
            partition.stats,
            partition.blocked("a"),
            partition.parked("a"),
            partition.owner("a"),
        )
        call = Call(REDRIVE, names, ("a", *(letter.entry for letter in letters), "1-1"))
        assert await server.run_all([call]) == [2]
        before = await canal.snapshot()
        assert await server.run_all([call]) == [0]
        assert await canal.snapshot() == before
        assert len(await take(await canal.consumer())) == 2


async def test_every_partitions_letters_are_given_again_and_those_that_come_meanwhile_are_not(
    server: Server,
) -> None:
    async with desk(server, partitions=4) as canal:
        await bury(canal, *range(250))
        steps = redrive(server, canal.keys, "a", EVERY)
        first = await anext(steps)
        await bury(canal, *range(250, 260))
        assert first > 0
        given = await through(steps)
        assert given[-1] >= 250
        assert (await canal.measured()).branches["a"].redriven == given[-1]
        # What was given first failed again meanwhile, and so did the new ones; nothing else is left.
        assert len(await ids(canal)) == 260 - (await canal.measured()).branches["a"].undelivered


async def test_only_what_the_filter_takes_is_given_again(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        await bury(canal, NewEvent(data=1, id="a1", type="order"), error=b"TimeoutError: slow")
        await bury(canal, NewEvent(data=2, id="a2", type="order"), error=b"KeyError: 'x'")
        await bury(canal, NewEvent(data=3, id="a3"), error=b"TimeoutError: slow")
        for wanted, expected in (
            (LetterFilter(error="Timeout"), {"a1", "a3"}),
            (LetterFilter(error="Timeout", type="order"), {"a1"}),
            (LetterFilter(type="event"), {"a3"}),
            (LetterFilter(id="a2"), {"a2"}),
            (LetterFilter(error="timeout"), set()),
        ):
            assert await ids(canal, wanted) == expected, wanted
        await through(redrive(server, canal.keys, "a", LetterFilter(error="Timeout", type="order")))
        assert await ids(canal) == {"a2", "a3"}


async def test_letters_are_found_by_when_they_became_dead_letters(server: Server) -> None:
    async with desk(server) as canal:
        await bury(canal, NewEvent(data=1, id="early"))
        (early,) = await read_dead_letters(server, canal.keys, "a")
        await asyncio.sleep(0.005)
        await bury(canal, NewEvent(data=2, id="late"))
        middle = early.dead_ms + 1
        assert await ids(canal, LetterFilter(until_ms=middle)) == {"early"}
        assert await ids(canal, LetterFilter(from_ms=middle)) == {"late"}
        assert await ids(canal, LetterFilter(from_ms=0, until_ms=middle + 60_000)) == {"early", "late"}


async def test_at_a_rate_no_more_are_given_than_it_says(server: Server) -> None:
    async with desk(server) as canal:
        await bury(canal, *range(30))
        started, given = time.monotonic(), []
        async for moved in redrive(server, canal.keys, "a", EVERY, per_second=50):
            seconds = time.monotonic() - started
            assert moved <= 50 * seconds + 5 + 1
            given.append(moved)
    assert given == [5, 10, 15, 20, 25, 30]


async def test_a_branch_that_is_no_more_gets_nothing_and_its_letters_stay_until_they_are_purged(
    server: Server,
) -> None:
    async with desk(server, ("a", "b")) as canal:
        await bury(canal, NewEvent(data=1, id="x"), branch="b")
        await ensure_groups(server, canal.keys, ["a"])
        with pytest.raises(NotProvisionedError, match="no branch 'b' any more"):
            await through(redrive(server, canal.keys, "b", EVERY))
        assert await ids(canal, branch="b") == {"x"}
        assert await through(purge(server, canal.keys, "b", EVERY)) == [1]
        assert await ids(canal, branch="b") == set()


async def test_of_an_ordered_branch_one_goes_behind_the_event_its_key_waits_for(server: Server) -> None:
    async with desk(server) as canal:
        await bury(canal, NewEvent(data=1, id="x", key="k"), NewEvent(data=2, id="y", key="free"))
        partition = canal.keys.partition(0)
        await canal.command(partition.owner("a"), "HSET", partition.owner("a"), "token", 1)
        await canal.command(partition.blocked("a"), "HSET", partition.blocked("a"), "k", "older")
        await through(redrive(server, canal.keys, "a", EVERY))
        (given,) = await take(await canal.consumer())
        assert given.event.id == "y"
        blocked = await canal.command(partition.blocked("a"), "HMGET", partition.blocked("a"), "k", "free")
        assert blocked == [b"older", b"y"]
        assert await canal.command(partition.stats, "HGET", partition.stats, "parked:a") == b"1"
        (packed,) = await canal.command(partition.parked("a"), "LRANGE", partition.parked("a", "k"), 0, -1)
        assert packed.startswith(b"7:attempt1:1")
        assert b"2:id1:x" in packed


async def test_purging_removes_what_the_filter_takes_and_nothing_else(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        await bury(canal, *(NewEvent(data=n, id=str(n)) for n in range(300)), error=b"old")
        await bury(canal, NewEvent(data=0, id="kept"), error=b"new")
        removed = await through(purge(server, canal.keys, "a", LetterFilter(error="old")))
        assert removed[-1] == 300
        assert await ids(canal) == {"kept"}
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_dead_letters_of_the_join_can_be_purged(server: Server) -> None:
    async with desk(server) as canal:
        name = canal.keys.partition(0).timed_out
        await canal.command(name, "XADD", name, "*", "error", "the join timed out", "id", "x")
        assert await through(purge(server, canal.keys, JOIN, LetterFilter(id="y"))) == []
        assert await through(purge(server, canal.keys, JOIN, LetterFilter(id="x"))) == [1]
        assert await canal.command(name, "XLEN", name) == 0
