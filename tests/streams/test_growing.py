"""Partitions are added while events are published: none is lost, none comes twice, and every key keeps its order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import Ordering, RetryContract
from headgate.event import NewEvent
from headgate.streams import (
    BranchStart,
    Ensured,
    FewerPartitionsError,
    PipelineKeys,
    Publisher,
    Removal,
    Server,
    ServerUnavailableError,
    SourceSettings,
    ensure_groups,
    release_grown,
)
from streams.desk import Desk, desk, done, eventually, retried, take
from streams.ordered_effects import misordered, read_lines
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headgate.streams import Receipt
    from headgate.streams.server import Call

ORDERED = BranchStart("a", ordered=True)
RETRY = RetryContract(max_attempts=100, initial_seconds=0.05, factor=1, max_seconds=0.05)


async def grow(canal: Desk, partitions: int) -> Ensured:
    """What a pass does; the desk's own publisher is left to find out."""
    canal.keys = canal.keys.with_partitions(partitions)
    return await ensure_groups(canal.server, canal.keys, [ORDERED], removal=Removal(drain=True))


def moved_key(before: int, after: int, to: int | None = None) -> str:
    """A key whose partition is another with more of them."""
    old, new = PipelineKeys("test", "canal", before), PipelineKeys("test", "canal", after)
    return next(
        key
        for key in (f"k{n}" for n in range(1000))
        if old.partition_of(key) != new.partition_of(key) and to in {None, new.partition_of(key)}
    )


async def test_keys_move_to_new_partitions_only_and_publishers_follow_at_their_next_event(
    server: Server,
) -> None:
    async with desk(server, partitions=2) as canal:
        keys = [f"k{n}" for n in range(60)]
        before = await canal.publish(*(NewEvent(id=f"{key}.0", key=key, data=0) for key in keys))
        assert (await grow(canal, 5)).growing == {"a"}
        assert await grow(canal, 5) == Ensured(growing=frozenset({"a"}))
        after = await canal.publish(*(NewEvent(id=f"{key}.1", key=key, data=1) for key in keys))
        assert not any(receipt.duplicate for receipt in after)
        assert {receipt.partition for receipt in after} == set(range(5))
        for old, new in zip(before, after, strict=True):
            assert new.partition == old.partition or new.partition >= 2
        opened = await Publisher.open(server, "test", "canal")
        (receipt,) = await opened.publish([NewEvent(key=keys[0], data=2)])
        assert receipt.partition == after[0].partition


async def test_an_id_published_before_is_not_published_again_where_it_belongs_now(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        events = [NewEvent(id=f"e{n}", data=n) for n in range(50)]
        fresh = await Publisher.open(server, "test", "canal")
        first = await canal.publish(*events)
        for partitions in (4, 7):
            await grow(canal, partitions)
            late = await Publisher.open(server, "test", "canal")
            for publisher in (canal.publisher, fresh, late):
                again = await publisher.publish(events)
                assert all(receipt.duplicate for receipt in again)
                assert [(each.partition, each.entry) for each in again] == [
                    (each.partition, each.entry) for each in first
                ]
        assert (await canal.measured()).published == 50


async def test_a_new_partition_of_an_ordered_branch_waits_until_the_old_ones_are_through(
    server: Server,
) -> None:
    async with desk(server, partitions=2) as canal:
        key = moved_key(2, 4)
        (early,) = await canal.publish(NewEvent(key=key, data="early"))
        await grow(canal, 4)
        (late,) = await canal.publish(NewEvent(key=key, data="late"))
        assert late.partition >= 2
        old = await canal.consumer("w1.x", partition=early.partition)
        new = await canal.consumer("w1.x", partition=late.partition)
        assert (await new.read(10))[:3] == ([], -1, 64)
        held = await take(old)
        assert await release_grown(server, canal.keys, ["a"]) == {"a"}
        await old.settle([done(each) for each in held])
        assert await release_grown(server, canal.keys, ["a"]) == frozenset()
        assert [each.event.data for each in await take(new)] == ["late"]


async def test_a_key_that_moved_and_waits_for_another_attempt_holds_the_new_partitions_and_one_that_stayed_does_not(
    server: Server,
) -> None:
    async with desk(server, partitions=2) as canal:
        moved = moved_key(2, 4)
        home = canal.keys.partition_of(moved)
        stayed = next(
            key
            for key in (f"s{n}" for n in range(1000))
            if canal.keys.with_partitions(4).partition_of(key) == home == canal.keys.partition_of(key)
        )
        await canal.publish(NewEvent(key=moved, data=1), NewEvent(key=stayed, data=2))
        await grow(canal, 4)
        consumer = await canal.consumer(partition=home, ordering=Ordering.KEY)
        first, second = await take(consumer)
        await consumer.settle([retried(first, 60_000), retried(second, 60_000)])
        assert await release_grown(server, canal.keys, ["a"]) == {"a"}
        delayed = canal.keys.partition(home).delayed("a")
        for packed in await canal.command(delayed, "ZRANGE", delayed, 0, -1):
            await canal.command(delayed, "ZADD", delayed, 0, packed)
        again = await take(consumer)
        (of_moved,) = [each for each in again if each.event.key == moved]
        (of_stayed,) = [each for each in again if each.event.key == stayed]
        await consumer.settle([retried(of_stayed, 60_000)])
        assert await release_grown(server, canal.keys, ["a"]) == {"a"}
        await consumer.settle([done(of_moved)])
        assert await release_grown(server, canal.keys, ["a"]) == frozenset()
        for number in (2, 3):
            held = canal.keys.partition(number).held("a")
            assert await canal.command(held, "EXISTS", held) == 0
        assert (await grow(canal, 4)).growing == frozenset()


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
                    consumer = await canal.consumer("w1.x", partition=number)
                    while deliveries := await take(consumer):
                        for each in deliveries:
                            read.setdefault(each.event.key or "", []).append(each.event.data)
                        await consumer.settle([done(each) for each in deliveries])
                assert await release_grown(valkey, canal.keys, ["a"]) == frozenset()
            assert read == {key: [0, 1] for key in keys}, f"after {calls} calls"
        await valkey.execute("x", "FLUSHALL")
        calls += 1
        if finished:
            break
    assert calls > 10


async def test_an_operator_that_is_gone_in_the_middle_holds_publishers_up_for_seconds_only(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(valkey, partitions=1) as canal:
        with pytest.raises(asyncio.CancelledError):
            # The new partitions are there, and the old one sends publishers to them.
            await ensure_groups(Dying(valkey, 6), canal.keys.with_partitions(3), [ORDERED])
        key = moved_key(1, 3)
        began = asyncio.get_running_loop().time()
        (receipt,) = await canal.publish(NewEvent(key=key, data=1))
        assert receipt.partition > 0
        assert asyncio.get_running_loop().time() - began > 1
        monkeypatch.setattr("headgate.streams.publisher._MOVING_SECONDS", 0.2)
        opening = canal.keys.partition(receipt.partition).opening
        await canal.command(opening, "SET", opening, 1)
        with pytest.raises(ServerUnavailableError, match="partitions of pipeline test/canal are being added"):
            await canal.publish(NewEvent(key=key, data=2))


async def test_each_keys_order_is_kept_by_real_workers_while_partitions_grow_from_2_to_4_to_7(
    server: Server, tmp_path: Path
) -> None:
    names = [f"p{publisher}k{n}" for publisher in range(3) for n in range(8)]
    grown, rounds = asyncio.Event(), dict.fromkeys(range(3), 0)
    async with desk(server, partitions=2) as canal:
        await ensure_groups(server, canal.keys, [ORDERED])

        async def publish(number: int) -> None:
            publisher = await Publisher.open(server, "test", "canal")
            mine = [name for name in names if name.startswith(f"p{number}k")]
            left = 15  # rounds after the last growth
            while left:
                left -= grown.is_set()
                turn = rounds[number]
                do = "fail-once" if turn % 17 == 5 else "return"
                data = {"do": do, "seconds": 0.002}
                await publisher.publish([NewEvent(id=f"{key}.{turn}", key=key, data=data) for key in mine])
                rounds[number] += 1
                await asyncio.sleep(0.1)

        def of_now() -> Any:
            settings = {"function": "streams.ordered_effects:act", "ordering": Ordering.KEY, "retry": RETRY}
            return canal.contract(claim_after_seconds=3, **settings)

        with workers_in(tmp_path, server.url) as workers:
            old = [workers.start(of_now()), workers.start(of_now())]
            publishing = [asyncio.create_task(publish(number)) for number in range(3)]
            for partitions in (4, 7):
                done_before = len(read_lines(workers.effects_path))
                await asyncio.to_thread(
                    workers.wait,
                    lambda least=done_before + 150: len(read_lines(workers.effects_path)) > least,
                    "events between two growths",
                )
                assert (await grow(canal, partitions)).growing == {"a"}
                rolled = [await asyncio.to_thread(workers.start, of_now()) for _ in old]
                for worker in old:
                    worker.terminate()
                old = rolled

                async def released() -> bool:
                    return not await release_grown(server, canal.keys, ["a"])

                await eventually(released, "the new partitions to be read", 60)
            grown.set()
            await asyncio.gather(*publishing)
            events = sum(8 * count for count in rounds.values())
            figures = await canal.settled(events=events)
            lines = read_lines(workers.effects_path)
    assert (figures.done, figures.dead) == (events, 0)
    assert misordered(lines) == []
    ended = [(line.key, line.number) for line in lines if line.what == "end"]
    assert sorted(ended) == sorted((name, turn) for name in names for turn in range(rounds[int(name[1])]))
    assert {line.partition for line in lines} == set(range(7))
