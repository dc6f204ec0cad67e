"""Partitions are added while events are published: none is lost, none comes twice, and every key keeps its order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from headgate.contract import Ordering, RetryContract
from headgate.event import NewEvent
from headgate.streams import (
    BranchStart,
    Ensured,
    PipelineKeys,
    Publisher,
    Removal,
    Server,
    ensure_groups,
    release_grown,
)
from streams.desk import Desk, desk, done, eventually, retried, take
from streams.ordered_effects import misordered, read_lines
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path


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
