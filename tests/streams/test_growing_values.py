"""Values under the keys of an ordered branch's events, while partitions are added and keys move."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from headgate import put
from headgate.contract import Ordering
from headgate.event import NewEvent
from headgate.relay import Relay
from headgate.streams import LetterFilter, Server, read_value, read_values, redrive, release_grown
from headgate.worker.composer import Composer
from streams.desk import Desk, dead, desk, eventually, take
from streams.test_growing import grow, moved_key
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path


async def put_by_next(canal: Desk, partition: int, key: str, value: Any) -> None:
    """The next event of a partition puts a value, composed by a worker that knows how many partitions there are."""
    consumer = await canal.consumer(f"w.{partition}", partition=partition, ordering=Ordering.KEY)
    (delivery,) = await take(consumer, 1)
    composer = Composer(canal.contract(ordering=Ordering.KEY))
    assert (await consumer.settle([composer.done(delivery, put(key, value))])).count == 1


async def relay(canal: Desk) -> None:
    await Relay(canal.server, canal.keys).run()


async def values_left(canal: Desk, key: str) -> dict[int, bytes]:
    """What the partitions' hashes hold of a key."""
    found = {}
    for each in canal.keys.all:
        value = await canal.command(each.values, "HGET", each.values, key)
        if value is not None:
            found[each.number] = value
    return found


async def names_of(server: Server) -> list[str]:
    return [name.decode() async for name in server.scan("*")]


async def test_a_value_summed_under_its_key_misses_no_event_of_a_backlog_while_partitions_are_added(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, partitions=2) as canal:
        names = [f"k{number}" for number in range(24)]

        async def publish(numbers: range) -> None:
            for number in numbers:
                await canal.publish(*(NewEvent(id=f"{key}.{number}", key=key, data=number) for key in names))

        await publish(range(15))
        for partitions, so_far in ((4, 15), (7, 30)):
            assert (await grow(canal, partitions)).growing == {"a"}
            await publish(range(so_far, so_far + 15))
        contract = canal.contract(
            function="streams.tallying:tally", ordering=Ordering.KEY, claim_after_seconds=3
        )
        with workers_in(tmp_path, server.url) as workers:
            workers.start(contract)
            workers.start(contract)

            async def released() -> bool:
                return not await release_grown(server, canal.keys, ["a"])

            await eventually(released, "the new partitions to be read", 60)
            figures = await canal.settled(events=45 * len(names))
        found = await read_values(server, canal.keys)
    assert (figures.done, figures.dead) == (45 * len(names), 0)
    assert found == {key: list(range(45)) for key in names}


async def test_what_the_event_before_put_is_read_at_once_though_the_key_has_moved(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        key = moved_key(2, 4)
        (first, _) = await canal.publish(NewEvent(key=key, data=1), NewEvent(key=key, data=2))
        await grow(canal, 4)
        await put_by_next(canal, first.partition, key, "of the first")
        assert await read_value(server, canal.keys, key) == "of the first"
        await put_by_next(canal, first.partition, key, "of the second")
        assert await read_value(server, canal.keys, key) == "of the second"
        assert await read_values(server, canal.keys) == {key: "of the second"}


async def test_what_is_relayed_late_replaces_nothing_newer_that_was_put_on_a_keys_new_partition(
    server: Server,
) -> None:
    for value in ("old", None):
        async with desk(server, partitions=2) as canal:
            key = moved_key(2, 4)
            (early,) = await canal.publish(NewEvent(key=key, data="early"))
            await grow(canal, 4)
            (late,) = await canal.publish(NewEvent(key=key, data="late"))
            await put_by_next(canal, early.partition, key, value)
            assert await release_grown(server, canal.keys, ["a"]) == frozenset()
            assert await read_value(server, canal.keys, key) == value
            await put_by_next(canal, late.partition, key, "new")
            await relay(canal)
            assert await read_value(server, canal.keys, key) == "new"
            assert await read_values(server, canal.keys) == {key: "new"}
        await asyncio.gather(*(canal.command(name, "UNLINK", name) for name in await names_of(server)))


async def test_what_a_redriven_event_puts_on_a_keys_old_partition_is_found_though_a_newer_event_put_before(
    server: Server,
) -> None:
    async with desk(server, partitions=2) as canal:
        key = moved_key(2, 4)
        (early,) = await canal.publish(NewEvent(key=key, data="early"))
        consumer = await canal.consumer("w.x", partition=early.partition, ordering=Ordering.KEY)
        await consumer.settle([dead(each) for each in await take(consumer)])
        await grow(canal, 4)
        (late,) = await canal.publish(NewEvent(key=key, data="late"))
        assert await release_grown(server, canal.keys, ["a"]) == frozenset()
        await put_by_next(canal, late.partition, key, "new")
        assert sum([moved async for moved in redrive(server, canal.keys, "a", LetterFilter())]) == 1
        await put_by_next(canal, early.partition, key, "redriven")
        await relay(canal)
        assert await read_value(server, canal.keys, key) == "redriven"
        assert await read_values(server, canal.keys) == {key: "redriven"}


async def test_a_value_that_was_removed_is_gone_at_once_though_one_from_before_is_on_the_old_partition(
    server: Server,
) -> None:
    async with desk(server, partitions=2) as canal:
        key = moved_key(2, 4)
        (early,) = await canal.publish(NewEvent(key=key, data="early"))
        await put_by_next(canal, early.partition, key, "old")
        await grow(canal, 4)
        assert await release_grown(server, canal.keys, ["a"]) == frozenset()
        (late, *_) = await canal.publish(*(NewEvent(key=key, data=n) for n in range(3)))
        await put_by_next(canal, late.partition, key, None)
        assert await read_value(server, canal.keys, key) is None
        assert await read_values(server, canal.keys) == {}
        await put_by_next(canal, late.partition, key, "again")
        await relay(canal)
        assert await read_value(server, canal.keys, key) == "again"
        await put_by_next(canal, late.partition, key, None)
        await relay(canal)
        assert await values_left(canal, key) == {}
