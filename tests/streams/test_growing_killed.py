"""Operators that die, or stand still, while partitions are added: nothing waits, is lost, doubled or misordered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from headgate.event import NewEvent
from headgate.streams import (
    FewerPartitionsError,
    Publisher,
    Server,
    ServerUnavailableError,
    SourceSettings,
    ensure_groups,
    release_grown,
)
from streams.desk import Desk, desk, done, take
from streams.test_growing import ORDERED, grow, moved_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams import Receipt
    from headgate.streams.server import Call


class Dying(Server):
    """Lets so many calls through, then is as if the operator had died; it was nobody's publisher."""

    def __init__(self, real: Server, calls: int) -> None:
        self._real = real
        self.calls = calls

    async def _pass(self) -> None:
        if not self.calls:
            raise asyncio.CancelledError
        self.calls -= 1

    async def execute(self, *arguments: Any, **named: Any) -> Any:
        await self._pass()
        return await self._real.execute(*arguments, **named)

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        replies = []
        for call in calls:
            await self._pass()
            replies += await self._real.run_all([call])
        return replies


class Stopped(Dying):
    """Lets so many calls through, then stands still until it is continued, as a process that got SIGSTOP."""

    def __init__(self, real: Server, calls: int) -> None:
        super().__init__(real, calls)
        self.stopped, self.continued = asyncio.Event(), asyncio.Event()

    async def _pass(self) -> None:
        if self.calls:
            self.calls -= 1
            return
        self.stopped.set()
        await self.continued.wait()


async def numbers_of(canal: Desk) -> list[bytes]:
    names = [partition.settings for partition in canal.keys.all]
    return [(await canal.command(name, "HMGET", name, "partitions"))[0] for name in names]


@pytest.mark.parametrize("before", [2, 3])
async def test_a_pass_of_an_old_spec_stopped_at_any_call_and_continued_after_a_growth_takes_no_partition_away(
    valkey: Server, before: int
) -> None:
    calls = 0
    while True:
        async with desk(valkey, partitions=2) as canal:
            late = Stopped(valkey, calls)
            passing = asyncio.create_task(ensure_groups(late, canal.keys.with_partitions(before), [ORDERED]))
            stopping = asyncio.create_task(late.stopped.wait())
            await asyncio.wait({passing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            finished = not late.stopped.is_set()
            await grow(canal, 4)
            (first,) = await canal.publish(NewEvent(key=(key := moved_key(2, 4)), data=1))
            seen = await canal.snapshot()
            late.continued.set()
            (error,) = await asyncio.gather(passing, return_exceptions=True)
            assert await numbers_of(canal) == [b"4"] * 4, f"after {calls} calls"
            if isinstance(error, Exception):
                assert isinstance(error, FewerPartitionsError), error
                assert "has 4 partitions on the server and" in str(error)
                assert await canal.snapshot() == seen
            fresh = await Publisher.open(valkey, "test", "canal")
            for publisher in (canal.publisher, fresh):
                (next_one,) = await publisher.publish([NewEvent(key=key, data=2)])
                assert next_one.partition == first.partition >= 2
        await valkey.execute("x", "FLUSHALL")
        calls += 1
        if finished:
            break
    assert calls > 3


async def test_fewer_partitions_than_there_are_are_refused_and_nothing_is_changed(server: Server) -> None:
    async with desk(server, partitions=3) as canal:
        before = await canal.snapshot()
        for partitions in (1, 2):
            with pytest.raises(FewerPartitionsError, match=r"set source.partitions to 3"):
                await ensure_groups(
                    server, canal.keys.with_partitions(partitions), ["b"], SourceSettings(replicas=1)
                )
        assert await canal.snapshot() == before


async def test_killed_after_any_call_the_growth_is_finished_by_the_next_pass_with_no_event_lost_or_doubled(
    valkey: Server,
) -> None:
    calls = 0
    while True:
        async with desk(valkey, partitions=2) as canal:
            keys = [f"k{n}" for n in range(12)]
            await canal.publish(*(NewEvent(id=f"{key}.0", key=key, data=0) for key in keys))
            stale = await Publisher.open(valkey, "test", "canal")
            dying = Dying(valkey, calls)
            grown = canal.keys.with_partitions(4)
            try:
                await ensure_groups(dying, grown, [ORDERED])
                finished = True
            except asyncio.CancelledError:
                finished = False
            publishing = asyncio.create_task(
                stale.publish([NewEvent(id=f"{key}.1", key=key, data=1) for key in keys])
            )
            await asyncio.sleep(0.05)
            assert (await grow(canal, 4)).growing == {"a"}
            receipts: list[Receipt] = await publishing
            assert not any(receipt.duplicate for receipt in receipts)
            read: dict[str, list[int]] = {}
            for numbers in ((0, 1), (2, 3)):
                for number in numbers:
                    await read_on(canal, number, read)
                assert await release_grown(valkey, canal.keys, ["a"]) == frozenset()
            assert read == {key: [0, 1] for key in keys}, f"after {calls} calls"
        await valkey.execute("x", "FLUSHALL")
        calls += 1
        if finished:
            break
    assert calls == 9


class Diary:
    """What was published of each key, in order, and where each id went first."""

    def __init__(self, names: Sequence[str]) -> None:
        self.first: dict[str, tuple[int, str]] = {}
        self.order: dict[str, list[int]] = {name: [] for name in names}

    async def publish(self, publisher: Publisher, number: int) -> None:
        """One event of each key; those published before have to be found where they are."""
        events = [NewEvent(id=f"{key}.{number}", key=key, data=number) for key in self.order]
        for key, receipt in zip(self.order, await publisher.publish(events), strict=True):
            assert receipt.duplicate is (receipt.id in self.first), receipt
            place = (receipt.partition, receipt.entry)
            assert self.first.setdefault(receipt.id, place) == place
            if not receipt.duplicate:
                self.order[key].append(number)


async def read_on(canal: Desk, number: int, read: dict[str, list[int]]) -> None:
    """Handles what a partition has, and notes it by key."""
    consumer = await canal.consumer("w1.x", partition=number)
    while deliveries := await take(consumer):
        for each in deliveries:
            read.setdefault(each.event.key or "", []).append(each.event.data)
        await consumer.settle([done(each) for each in deliveries])


async def read_all(canal: Desk, *numbers: int) -> dict[str, list[int]]:
    """Each key's events in the order in which an ordered branch gets them."""
    read: dict[str, list[int]] = {}
    for number in numbers:
        await read_on(canal, number, read)
        await release_grown(canal.server, canal.keys, ["a"])
    return read


async def test_an_operator_killed_after_any_call_holds_no_publisher_up_and_the_next_pass_finishes_the_growth(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who has asked again and found nothing new gives up at once instead of waiting.
    monkeypatch.setattr("headgate.streams.publisher._MOVING_SECONDS", -1)
    states: set[tuple[bytes, ...]] = set()
    for calls in range(4 + 2 + 2 + 1):  # all are asked, two are made, two learn; and one that is not killed
        async with desk(valkey, partitions=2) as canal:
            diary = Diary([f"k{n}" for n in range(40)])
            await diary.publish(canal.publisher, 0)
            stale = await Publisher.open(valkey, "test", "canal")
            with contextlib.suppress(asyncio.CancelledError):
                await ensure_groups(Dying(valkey, calls), canal.keys.with_partitions(4), [ORDERED])
            canal.keys = canal.keys.with_partitions(4)
            states.add(tuple(await numbers_of(canal)))
            publishers = (stale, await Publisher.open(valkey, "test", "canal"), canal.publisher)
            for number, publisher in enumerate(publishers, start=1):
                await diary.publish(publisher, number)
            for key in diary.order:
                assert len({diary.first[f"{key}.{number}"][0] for number in (1, 2, 3)}) == 1
            await grow(canal, 4)
            assert await numbers_of(canal) == [b"4"] * 4
            for number, publisher in enumerate(publishers, start=4):
                for any_number in (number, *range(number)):
                    await diary.publish(publisher, any_number)
            wanted = {key: [*range(7)] for key in diary.order}
            assert await read_all(canal, 2, 3, 0, 1, 2, 3) == diary.order == wanted, f"after {calls} calls"
        await valkey.execute("x", "FLUSHALL")
    assert states == {
        (b"2", b"2", None, None),
        (b"2", b"2", b"4", None),
        (b"2", b"2", b"4", b"4"),
        (b"4", b"2", b"4", b"4"),
        (b"4", b"4", b"4", b"4"),
    }


async def test_ids_of_before_the_last_growth_but_one_are_found_while_old_partitions_do_not_know_of_the_last(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.streams.publisher._MOVING_SECONDS", -1)
    async with desk(valkey, partitions=2) as canal:
        events = [NewEvent(id=f"e{n}", data=n) for n in range(60)]
        first = await canal.publish(*events)
        await grow(canal, 3)
        calls = 6 + 3 + 1  # all are asked, three are made, the first learns
        with pytest.raises(asyncio.CancelledError):
            await ensure_groups(Dying(valkey, calls), canal.keys.with_partitions(6), [ORDERED])
        assert await numbers_of(canal) == [b"6", b"3", b"3"]
        for publisher in (canal.publisher, await Publisher.open(valkey, "test", "canal")):
            again = await publisher.publish(events)
            assert [(each.partition, each.entry, each.duplicate) for each in again] == [
                (each.partition, each.entry, True) for each in first
            ]


async def test_ids_are_found_on_a_partition_that_learned_long_after_the_first(valkey: Server) -> None:
    async with desk(valkey, partitions=2) as canal:
        with pytest.raises(asyncio.CancelledError):
            await ensure_groups(Dying(valkey, 4 + 2 + 1), canal.keys.with_partitions(4), [ORDERED])
        assert await numbers_of(canal) == [b"4", b"2"]
        settings = canal.keys.partition(0).settings
        await canal.command(settings, "HSET", settings, "grown", "2:1000")  # the operator was away for hours
        events = [NewEvent(id=f"e{n}", data=n) for n in range(60)]
        first = await (await Publisher.open(valkey, "test", "canal")).publish(events)
        moving = [
            each for each in first if canal.keys.with_partitions(4).partition_of(each.id) > each.partition
        ]
        assert {each.partition for each in moving} == {1}
        await grow(canal, 4)
        for publisher in (canal.publisher, await Publisher.open(valkey, "test", "canal")):
            again = await publisher.publish(events)
            assert [(each.partition, each.entry, each.duplicate) for each in again] == [
                (each.partition, each.entry, True) for each in first
            ]


async def test_a_partition_that_goes_on_refusing_is_told_to_the_publisher_after_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.streams.publisher._MOVING_SECONDS", 0.2)
    async with desk(server, partitions=2) as canal:
        odd = canal.keys.partition(1).settings
        await canal.command(odd, "HSET", odd, "partitions", 9)
        with pytest.raises(ServerUnavailableError, match="partitions of pipeline test/canal are being added"):
            await canal.publish(*(NewEvent(key=f"k{n}", data=n) for n in range(20)))
