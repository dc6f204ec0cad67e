"""expire.lua: joins whose time is up."""

from __future__ import annotations

import importlib

import pytest

from headgate import result, split
from headgate.contract import JoinContract, OnTimeout
from headgate.event import NewEvent
from headgate.join import read_records
from headgate.streams import Server, sweep
from headgate.worker.composer import Composer
from streams.desk import Desk, desk, done, eventually, take

SWEEPING = importlib.import_module("headgate.streams.sweep")  # the package has a function of the name
BOTH = JoinContract(branches=("a", "b"), timeout_seconds=600)
AT_ONCE = JoinContract(branches=("a", "b"), timeout_seconds=0)


async def settle_one(canal: Desk, branch: str, outcome, *args) -> int:
    consumer = await canal.consumer("w1.x", branch)
    (delivery,) = await take(consumer, 1)
    return (await consumer.settle([outcome(delivery, *args)])).count


async def test_a_join_out_of_time_says_what_is_missing_and_the_late_outcome_is_counted_and_dropped(
    server: Server,
) -> None:
    async with desk(server, ("a", "b"), join=AT_ONCE) as canal:
        await canal.publish(NewEvent(data=1, id="i"))
        await settle_one(canal, "a", done, b"1")
        assert (await sweep(server, canal.keys, AT_ONCE)).joins == 1
        (record,) = await read_records(server, canal.keys)
        assert not record.complete
        assert (record.results, record.failed, record.missing) == ({"a": 1}, {}, ("b",))
        assert (await sweep(server, canal.keys, AT_ONCE)).joins == 0
        assert await settle_one(canal, "b", done, b"2") == 1
        figures = await canal.measured()
        assert (figures.partial, figures.joined, figures.late, figures.open_joins) == (1, 0, 1, 0)
        assert (await sweep(server, canal.keys, AT_ONCE)).joins == 0
        assert await read_records(server, canal.keys) == [record]


async def test_one_sweep_ends_all_joins_that_are_out_of_time_however_many(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred a sweep would fall behind for ever where a branch stands still and the others go on."""
    monkeypatch.setattr(SWEEPING, "_JOINS_SECONDS", 60)  # for a busy machine
    async with desk(server, ("a", "b"), partitions=2, join=AT_ONCE) as canal:
        await canal.publish(*range(700))
        for partition in range(2):
            consumer = await canal.consumer("w1.x", "a", partition)
            await consumer.settle([done(each) for each in await take(consumer, 700)])
        assert (await sweep(server, canal.keys, AT_ONCE)).joins == 700
        assert (await sweep(server, canal.keys, AT_ONCE)).joins == 0
        assert (await canal.measured()).open_joins == 0


async def test_a_sweep_that_takes_long_leaves_the_rest_to_the_next(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sweeps has a lease to renew."""
    monkeypatch.setattr(SWEEPING, "_JOINS_SECONDS", 0)
    async with desk(server, ("a", "b"), join=AT_ONCE) as canal:
        await canal.publish(*range(150))
        consumer = await canal.consumer()
        await consumer.settle([done(each) for each in await take(consumer, 150)])
        assert [(await sweep(server, canal.keys, AT_ONCE)).joins for _ in range(3)] == [100, 50, 0]


async def test_a_join_in_time_is_left_alone_by_the_sweep(server: Server) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        await canal.publish(1)
        await settle_one(canal, "a", done)
        await sweep(server, canal.keys, BOTH)  # notes where each branch is, for groups that get lost
        before = await canal.snapshot()
        assert (await sweep(server, canal.keys, BOTH)).joins == 0
        assert await canal.snapshot() == before


async def test_the_time_out_counts_from_the_first_outcome(server: Server) -> None:
    soon = JoinContract(branches=("a", "b"), timeout_seconds=1)
    async with desk(server, ("a", "b"), join=soon) as canal:
        await canal.publish(1)
        assert (await sweep(server, canal.keys, soon)).joins == 0
        await settle_one(canal, "b", done)
        joins = canal.keys.partition(0).joins
        _, deadline_ms = await canal.command(joins, "ZRANGE", joins, 0, -1, "WITHSCORES")
        assert 0 < int(deadline_ms) - (await canal.measured()).now_ms <= 1000

        async def swept() -> bool:
            return (await sweep(server, canal.keys, soon)).joins == 1

        await eventually(swept, "the join's end")
        (record,) = await read_records(server, canal.keys)
    assert record.missing == ("a",)
    assert record.joined_ms >= int(deadline_ms)


@pytest.mark.parametrize("on_timeout", OnTimeout)
async def test_out_of_time_a_join_is_a_partial_record_or_a_dead_letter_as_the_manifest_says(
    server: Server, on_timeout: OnTimeout
) -> None:
    join = JoinContract(branches=("a", "b"), timeout_seconds=0, on_timeout=on_timeout)
    async with desk(server, ("a", "b"), join=join) as canal:
        await canal.publish(NewEvent(data=1, id="i"))
        parts = result(1, split([NewEvent(data=2, id="p1")]))
        await settle_one(canal, "a", Composer(canal.contract("a")).done, parts)
        assert (await sweep(server, canal.keys, join)).joins == 1
        records = await read_records(server, canal.keys)
        name = canal.keys.partition(0).timed_out
        letters = await server.execute(name, "XRANGE", name, "-", "+")
        if on_timeout is OnTimeout.EMIT_PARTIAL:
            assert [(each.results, each.missing) for each in records] == [({"a": 1}, ("a", "b"))]
            assert letters == []
        else:
            assert records == []
            assert letters[0][1][b"missing:b"] == b"2"
            assert b"timed out" in letters[0][1][b"error"]
        for branch in ("a", "b", "b"):
            await settle_one(canal, branch, done, b"9")
        figures = await canal.measured()
        assert (figures.partial, figures.late, figures.open_joins) == (1, 3, 0)
        assert await read_records(server, canal.keys) == records
        assert [name async for name in server.scan("*:join:*")] == []
