"""join.lua beyond "all of them": the first, a quorum, parts of a split event, and what becomes of the late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import result, split
from headgate.contract import Complete, JoinContract
from headgate.event import NewEvent
from headgate.join import read_records
from headgate.relay import Relay
from headgate.streams import LetterFilter, PipelineKeys, Server, ensure_groups, redrive, sweep
from headgate.streams.outcome import Kind, Outcome
from headgate.worker.composer import Composer
from streams.desk import Desk, dead, desk, done, take

if TYPE_CHECKING:
    from headgate.join import Record

ABC = ("a", "b", "c")
ANY = JoinContract(branches=ABC, complete=Complete.ANY)
TWO = JoinContract(branches=ABC, complete=Complete.QUORUM, quorum=2)
ALL = JoinContract(branches=("a", "b"))


class Table:
    """A pipeline's branches, each with a consumer and what it holds, by event id."""

    def __init__(self, canal: Desk) -> None:
        self.canal = canal
        self.held: dict[tuple[str, str], Any] = {}

    async def read(self, branch: str) -> list[str]:
        """What a branch is given now."""
        consumer = await self.canal.consumer("w1.x", branch)
        deliveries = await take(consumer)
        self.held |= {(branch, each.event.id): each for each in deliveries}
        return [each.event.id for each in deliveries]

    async def settle(self, branch: str, event_id: str, ending: Any, *args: Any) -> None:
        """Settles one event of a branch; `ending` gives its outcome."""
        if (branch, event_id) not in self.held:
            await self.read(branch)
        consumer = await self.canal.consumer("w1.x", branch)
        assert (await consumer.settle([ending(self.held[branch, event_id], *args)])).count == 1

    async def split(self, branch: str, event_id: str, ids: list[str], value: Any = None) -> None:
        """The branch splits an event into parts of these ids."""
        parts = result(value, split(NewEvent(data=each, id=each) for each in ids))
        await self.settle(branch, event_id, Composer(self.canal.contract(branch)).done, parts)

    async def records(self) -> list[Record]:
        return await read_records(self.canal.server, self.canal.keys)

    async def joins_left(self) -> list[bytes]:
        return [name async for name in self.canal.server.scan("*:join:*")]


def filtered(delivery: Any) -> Outcome:
    return Outcome(delivery, Kind.FILTERED)


async def test_the_first_result_completes_an_any_join_and_the_rest_is_late(server: Server) -> None:
    async with desk(server, ABC, join=ANY) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.settle("b", "i", dead, b"no")
        assert await table.records() == []
        await table.settle("c", "i", done, b"3")
        (record,) = await table.records()
        assert (record.complete, record.results, record.failed) == (True, {"c": 3}, {"b": "no"})
        assert record.missing == ("a",)
        await table.settle("a", "i", done, b"1")
        figures = await canal.measured()
        assert (figures.joined, figures.partial, figures.late, figures.open_joins) == (1, 0, 1, 0)
        assert len(await table.records()) == 1
        assert await table.joins_left() == []


async def test_an_any_join_without_any_result_is_told_at_once_with_the_last_failure(server: Server) -> None:
    async with desk(server, ABC, join=ANY) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        for branch in ABC:
            assert await table.records() == []
            await table.settle(branch, "i", dead, b"no")
        (record,) = await table.records()
        assert (record.complete, set(record.failed), record.missing) == (False, set(ABC), ())
        assert await table.joins_left() == []


async def test_a_quorum_completes_with_so_many_results(server: Server) -> None:
    async with desk(server, ABC, join=TWO) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"), NewEvent(data=1, id="j"))
        await table.settle("a", "i", done, b"1")
        await table.settle("b", "i", dead, b"no")
        assert await table.records() == []
        await table.settle("c", "i", done, b"3")
        (record,) = await table.records()
        assert (record.id, record.complete, record.results) == ("i", True, {"a": 1, "c": 3})


async def test_a_quorum_out_of_reach_is_told_at_once(server: Server) -> None:
    async with desk(server, ABC, join=TWO) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.settle("a", "i", dead, b"no")
        await table.settle("b", "i", dead, b"no")
        (record,) = await table.records()
        assert (record.complete, record.missing) == (False, ("c",))
        await table.settle("c", "i", done, b"3")
        assert len(await table.records()) == 1
        assert await table.joins_left() == []


async def test_a_branch_that_filters_an_event_out_is_not_waited_for(server: Server) -> None:
    async with desk(server, ("a", "b"), join=ALL) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.settle("a", "i", filtered)
        await table.settle("b", "i", done, b"2")
        (record,) = await table.records()
        assert (record.complete, record.results, record.missing) == (True, {"b": 2}, ())


async def test_an_event_nobody_wants_makes_no_record(server: Server) -> None:
    async with desk(server, ("a", "b"), join=ALL) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        for branch in ("a", "b"):
            await table.settle(branch, "i", filtered)
        figures = await canal.measured()
        assert (figures.joined, figures.partial, figures.open_joins) == (0, 0, 0)
        assert figures.branches["a"].filtered == 1
        assert await table.joins_left() == []


async def test_the_join_waits_for_every_part_of_a_split_and_for_the_parts_of_parts(server: Server) -> None:
    async with desk(server, ("a", "b"), join=ALL) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.settle("b", "i", done, b'"whole"')
        await table.split("a", "i", ["p1", "p2"], value="into 2")
        assert await table.read("a") == ["p1", "p2"]
        await table.split("a", "p2", ["p2.1"])
        endings = [("a", "p1", b"11"), ("b", "p1", b"12"), ("b", "p2", b"22"), ("a", "p2.1", b"31")]
        for branch, part, value in endings:
            await table.settle(branch, part, done, value)
            assert await table.records() == []
        await table.settle("b", "p2.1", done, b"32")
        (record,) = await table.records()
        assert record.complete
        assert record.results == {"a": "into 2", "b": "whole"}
        assert record.parts == {
            "a": {"p1": 11, "p2": None, "p2.1": 31},
            "b": {"p1": 12, "p2": 22, "p2.1": 32},
        }
        figures = await canal.measured()
        assert (figures.joined, figures.late, figures.open_joins) == (1, 0, 0)
        assert await table.joins_left() == []


async def test_parts_of_an_event_that_failed_and_was_given_again_stand_in_for_nothing(server: Server) -> None:
    """Its join is open and counts their outcomes: unannounced, they would be taken for the events' own."""
    async with desk(server, ABC, join=TWO) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="e"))
        await table.settle("a", "e", dead)
        assert [moved async for moved in redrive(server, canal.keys, "a", LetterFilter())] == [1]
        del table.held["a", "e"]
        await table.split("a", "e", ["p1", "p2"])
        for branch in ("b", "c"):
            await table.settle(branch, "p1", done, b"1")
        assert await table.records() == []
        for branch in ("b", "c"):
            await table.settle(branch, "p2", done, b"2")
            assert await table.records() == []
            await table.settle(branch, "e", done, b"3")
        (record,) = await table.records()
        assert (record.complete, record.results, record.failed) == (True, {"b": 3, "c": 3}, {"a": "hopeless"})
        for part in ("p1", "p2"):
            await table.settle("a", part, done)
        assert await table.joins_left() == []


async def test_parts_of_an_event_given_again_after_its_record_do_not_end_the_memory_of_it(
    server: Server,
) -> None:
    async with desk(server, ABC, join=ANY) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="e"))
        await table.settle("a", "e", dead)
        await table.settle("b", "e", done, b"1")
        assert [moved async for moved in redrive(server, canal.keys, "a", LetterFilter())] == [1]
        del table.held["a", "e"]
        await table.split("a", "e", ["p1", "p2"])
        await table.settle("c", "p1", done)
        await table.settle("c", "e", done, b"2")
        for branch, part in (("a", "p1"), ("a", "p2"), ("b", "p1"), ("b", "p2"), ("c", "p2")):
            await table.settle(branch, part, done)
        (record,) = await table.records()
        assert record.results == {"b": 1}
        assert await table.joins_left() == []


async def test_a_part_that_failed_makes_the_record_incomplete_and_names_it(server: Server) -> None:
    async with desk(server, ("a",), join=JoinContract(branches=("a",))) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.split("a", "i", ["p1", "p2"])
        await table.settle("a", "p1", dead, b"torn")
        await table.settle("a", "p2", done, b"2")
        (record,) = await table.records()
        assert (record.complete, record.failed, record.parts) == (
            False,
            {"a/p1": "torn"},
            {"a": {"p2": 2}},
        )


async def test_many_parts_are_one_record_in_the_order_they_were_split(server: Server) -> None:
    async with desk(server, ("a",), join=JoinContract(branches=("a",))) as canal:
        await canal.publish(NewEvent(data=1, id="i"))
        consumer = await canal.consumer()
        (root,) = await take(consumer)
        parts = split(NewEvent(data=number) for number in range(2500))
        await consumer.settle([Composer(canal.contract()).done(root, parts)])
        while deliveries := await take(consumer, 500):
            await consumer.settle([done(each, b"%d" % each.event.data) for each in deliveries])
        (record,) = await read_records(server, canal.keys)
        assert list(record.parts["a"].values()) == list(range(2500))


async def test_parts_split_by_a_branch_outside_the_join_are_events_of_their_own(server: Server) -> None:
    join = JoinContract(branches=("b",))
    async with desk(server, ("a", "b"), join=join) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.split("a", "i", ["p1"])
        await table.settle("b", "i", done, b"1")
        await table.settle("b", "p1", done, b"2")
        assert [(each.id, each.results) for each in await table.records()] == [
            ("i", {"b": 1}),
            ("p1", {"b": 2}),
        ]


async def test_a_record_goes_on_as_an_event_of_the_output_pipeline_once(server: Server) -> None:
    join = JoinContract(branches=("a", "b"), output="catalogue")
    async with desk(server, ("a", "b"), join=join) as canal:
        catalogue = PipelineKeys("test", "catalogue", 1)
        await ensure_groups(server, catalogue, ["x"])
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.settle("a", "i", done, b'{"n":1}')
        await table.settle("b", "i", done, b"2")
        relay = Relay(server, canal.keys)
        assert [await relay.run(), await relay.run()] == [1, 0]
        lane = catalogue.partition(0).lanes[1]
        ((_, fields),) = await server.execute(lane, "XRANGE", lane, "-", "+")
    assert fields[b"id"] == b"canal/i"
    assert fields[b"type"] == b"headgate.record"
    assert b'"results":{"a":{"n":1},"b":2}' in fields[b"data"]


async def test_an_outcome_that_comes_when_its_joins_mark_is_gone_makes_a_second_partial_record_of_the_same_id(
    server: Server,
) -> None:
    join = JoinContract(branches=("a", "b"), timeout_seconds=0)
    async with desk(server, ("a", "b"), join=join) as canal:
        table = Table(canal)
        await canal.publish(NewEvent(data=1, id="i"))
        await table.settle("a", "i", done, b"1")
        await sweep(server, canal.keys, join)
        mark = canal.keys.partition(0).join("i")
        assert 86_000_000 < await canal.command(mark, "PTTL", mark) <= 86_400_000
        await canal.command(mark, "DEL", mark)  # a day has passed
        await table.settle("b", "i", done, b"2")
        await sweep(server, canal.keys, join)
        records = await table.records()
        assert [(each.id, each.results, each.missing) for each in records] == [
            ("i", {"a": 1}, ("b",)),
            ("i", {"b": 2}, ("a",)),
        ]
        assert (await canal.measured()).late == 0
