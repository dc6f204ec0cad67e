"""`headgate.value`: what a handler reads of its own pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate import put, value
from headgate.contract import Ordering, RetryContract
from headgate.event import NewEvent
from headgate.streams import PipelineKeys, Server, read_value, read_values
from headgate.values import read_values_by
from headgate.worker.composer import Composer
from streams.desk import desk, eventually, take
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [f"k{number}" for number in range(5)]


async def test_what_an_ordered_handler_reads_and_puts_under_its_key_misses_nothing_though_a_worker_is_killed(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, partitions=3) as canal:
        contract = canal.contract(
            function="streams.tallying:tally",
            ordering=Ordering.KEY,
            claim_after_seconds=2,
            retry=RetryContract(max_attempts=20, initial_seconds=0.05),
        )
        with workers_in(tmp_path, server.url) as workers:
            first = workers.start(contract)
            workers.start(contract)
            for number in range(40):
                await canal.publish(*(NewEvent(id=f"{key}.{number}", key=key, data=number) for key in KEYS))

            async def some_are_in() -> bool:
                return sum(map(len, (await read_values(server, canal.keys)).values())) > 20

            await eventually(some_are_in, "some are in")
            first.kill()
            await canal.settled(events=40 * len(KEYS))
        found = await read_values(server, canal.keys)
    assert found == {key: list(range(40)) for key in KEYS}


async def test_a_value_is_found_where_it_was_before_partitions_were_added(server: Server) -> None:
    before, after = PipelineKeys("test", "canal", 2), PipelineKeys("test", "canal", 7)
    moved = next(key for key in map(str, range(100)) if after.partition_of(key) > before.partition_of(key))
    async with desk(server, partitions=2) as canal:
        (receipt,) = await canal.publish(NewEvent(data=1, key=moved))
        consumer = await canal.consumer("w1.x", "a", receipt.partition)
        (delivery,) = await take(consumer)
        await consumer.settle([Composer(canal.contract()).done(delivery, put(moved, "old"))])
        assert await read_value(server, before, moved) == "old"
        assert await read_value(server, after, moved) == "old"
        home = after.partition(after.partition_of(moved)).values
        await canal.command(home, "HSET", home, moved, '"new"')
        assert await read_value(server, after, moved) == "new"
        assert await read_value(server, after, "nothing") is None


async def test_outside_a_handler_there_is_no_pipeline_to_read_from() -> None:
    with pytest.raises(RuntimeError, match=r"value\('k'\): only an async handler .* connect"):
        await value("k")


async def test_a_test_of_a_handler_says_what_is_read() -> None:
    async def read(key: str) -> str:
        return f"under {key}"

    read_values_by(read)
    assert await value("k") == "under k"
