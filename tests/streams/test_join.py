"""join.lua, in settle.lua: one record for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.contract import JoinContract
from headgate.event import NewEvent
from headgate.join import read_records
from streams.desk import Desk, dead, desk, done, retried, take

if TYPE_CHECKING:
    from headgate.streams import Server

BOTH = JoinContract(branches=("a", "b"), timeout_seconds=600)


async def settle_one(canal: Desk, branch: str, outcome, *args) -> int:
    consumer = await canal.consumer("w1.x", branch)
    (delivery,) = await take(consumer, 1)
    return (await consumer.settle([outcome(delivery, *args)])).count


async def test_the_last_branchs_result_makes_the_record_complete(server: Server) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        await canal.publish(NewEvent(data=1, id="i"))
        await settle_one(canal, "a", done, b'{"size":1}')
        assert await read_records(server, canal.keys) == []
        assert (await canal.measured()).open_joins == 1
        await settle_one(canal, "b", done)
        (record,) = await read_records(server, canal.keys)
        figures = await canal.measured()
        left = [names async for names in server.scan("*:join:*")]
    assert record.complete
    assert record.id == "i"
    assert record.results == {"a": {"size": 1}, "b": None}
    assert (record.failed, record.missing) == ({}, ())
    assert 0 < record.published_ms <= record.joined_ms <= figures.now_ms
    assert (figures.joined, figures.partial, figures.late, figures.open_joins) == (1, 0, 0, 0)
    assert left == []


async def test_a_record_tells_the_type_and_the_key_that_its_event_was_published_with(server: Server) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        await canal.publish(
            NewEvent(data=1, id="i", type="order.placed", key="kettle"), NewEvent(data=1, id="plain")
        )
        for branch in ("a", "b"):
            consumer = await canal.consumer("w1.x", branch)
            await consumer.settle([done(each) for each in await take(consumer, 2)])
        records = {record.id: record for record in await read_records(server, canal.keys)}
    assert (records["i"].type, records["i"].key) == ("order.placed", "kettle")
    assert (records["plain"].type, records["plain"].key) == ("event", None)


async def test_every_event_has_its_own_record_on_its_own_partition(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=4, join=BOTH) as canal:
        await canal.publish(*(NewEvent(data=n, id=f"e{n}") for n in range(40)))
        for partition in range(4):
            for branch in ("a", "b"):
                consumer = await canal.consumer("w1.x", branch, partition)
                deliveries = await take(consumer)
                await consumer.settle([done(each, b"%d" % each.event.data) for each in deliveries])
        records = await read_records(server, canal.keys)
        assert (await canal.measured()).joined == 40
        after = {records[0].partition: records[0].entry}
        assert len(await read_records(server, canal.keys, after=after)) == 39
        assert len(await read_records(server, canal.keys, limit=1)) == 4
    assert {record.id: record.results for record in records} == {f"e{n}": {"a": n, "b": n} for n in range(40)}


async def test_a_failed_branch_is_an_outcome_too_and_nobody_waits_for_the_time_out(server: Server) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        await canal.publish(NewEvent(data=1, id="i"))
        await settle_one(canal, "b", dead, b"no such file")
        await settle_one(canal, "a", done, b"1")
        (record,) = await read_records(server, canal.keys)
        figures = await canal.measured()
    assert not record.complete
    assert (record.results, record.failed, record.missing) == ({"a": 1}, {"b": "no such file"}, ())
    assert (figures.joined, figures.partial, figures.open_joins) == (0, 1, 0)


async def test_a_retry_is_no_outcome(server: Server) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        await canal.publish(1)
        await settle_one(canal, "a", retried)
        await settle_one(canal, "b", done)
        assert await read_records(server, canal.keys) == []
        await settle_one(canal, "a", done, b'"second try"')
        (record,) = await read_records(server, canal.keys)
    assert record.results == {"a": "second try", "b": None}


async def test_a_branch_that_is_not_joined_changes_no_record(server: Server) -> None:
    async with desk(server, ("a", "b", "c"), join=BOTH) as canal:
        await canal.publish(1, 2)
        await settle_one(canal, "c", done, b"1")
        await settle_one(canal, "c", dead)
        assert (await canal.measured()).open_joins == 0


async def test_a_second_outcome_of_the_same_branch_changes_nothing_but_the_count_of_late_ones(
    server: Server,
) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        for _ in range(2):
            await canal.xadd({"data": "1", "id": "same"})
        await settle_one(canal, "a", done, b'"first"')
        await settle_one(canal, "a", done, b'"second"')
        assert (await canal.measured()).late == 1
        await settle_one(canal, "b", done)
        (record,) = await read_records(server, canal.keys)
    assert record.results == {"a": "first", "b": None}


async def test_the_outcome_of_a_branch_that_left_the_join_does_not_make_the_record_early(
    server: Server,
) -> None:
    three, two = JoinContract(branches=("a", "b", "c")), JoinContract(branches=("b", "c"))
    async with desk(server, ("a", "b", "c"), join=three) as canal:
        await canal.publish(1)
        await settle_one(canal, "a", done, b"1")
        canal.join = two
        await settle_one(canal, "b", done, b"2")
        assert await read_records(server, canal.keys) == []
        await settle_one(canal, "c", done, b"3")
        (record,) = await read_records(server, canal.keys)
        assert (await canal.measured()).open_joins == 0
    assert record.complete
    assert record.results == {"b": 2, "c": 3}
