"""register.lua: a consumer's lease."""

from __future__ import annotations

import pytest

from headgate.streams import LeaseLostError, NotProvisionedError, Server, ensure_groups
from streams.desk import desk, take


async def test_a_lease_is_a_mark_with_the_servers_time(server: Server) -> None:
    async with desk(server) as canal:
        await canal.consumer("w1.x")
        beats = canal.keys.partition(0).beats("a")
        name, beat = await canal.command(beats, "ZRANGE", beats, 0, -1, "WITHSCORES")
        now_ms = (await canal.measured()).now_ms
    assert name == b"w1.x"
    assert now_ms - 5000 < int(beat) <= now_ms


async def test_a_lease_taken_twice_is_one_lease(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer("w1.x")
        await consumer.register("w1.x")
        beats = canal.keys.partition(0).beats("a")
        assert await canal.command(beats, "ZCARD", beats) == 1


async def test_without_a_group_there_is_no_lease_and_nothing_is_written(server: Server) -> None:
    async with desk(server) as canal:
        before = await canal.snapshot()
        with pytest.raises(NotProvisionedError):
            await canal.consumer(branch="unknown")
        assert await canal.snapshot() == before


async def test_without_a_stream_there_is_no_lease(server: Server) -> None:
    async with desk(server) as canal:
        await ensure_groups(server, canal.keys, [])
        with pytest.raises(NotProvisionedError):
            await canal.consumer()


async def test_a_lease_given_back_can_neither_read_nor_settle_and_its_work_is_claimable(
    server: Server,
) -> None:
    async with desk(server) as canal:
        await canal.publish("held")
        first, second = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        await take(first)
        await first.release()
        with pytest.raises(LeaseLostError):
            await take(first)
        assert [delivery.event.data for delivery in await second.beat(10)] == ["held"]
