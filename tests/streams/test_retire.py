"""retire.lua: what a worker that is known to be dead held is claimable at once."""

from __future__ import annotations

import pytest

from headgate.streams import LeaseLostError, Server, retire
from streams.desk import desk, take


async def test_a_retired_workers_events_are_claimed_at_the_next_heartbeat(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        await canal.publish(*range(20))
        for partition in (0, 1):
            held = await take(await canal.consumer("w1.x", partition=partition))
            assert held
            heir = await canal.consumer("w2.x", partition=partition)
            assert await heir.beat(100) == []
            await retire(server, canal.keys, "a", "w1")
            assert len(await heir.beat(100)) == len(held)


async def test_a_worker_is_retired_under_every_name_it_has_had_and_no_other_is(server: Server) -> None:
    async with desk(server) as canal:
        for lease in ("w1.x", "w1.y", "w10.x", "w1-b.x", "aw1.x"):
            await canal.consumer(lease)
        await retire(server, canal.keys, "a", "w1")
        beats = canal.keys.partition(0).beats("a")
        left = await canal.command(beats, "ZRANGE", beats, 0, -1)
    assert set(left) == {b"w10.x", b"w1-b.x", b"aw1.x"}


async def test_retiring_again_changes_nothing(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer("w1.x")
        await canal.consumer("w2.x")
        await retire(server, canal.keys, "a", "w1")
        before = await canal.snapshot()
        await retire(server, canal.keys, "a", "w1")
        await retire(server, canal.keys, "a", "never-there")
        assert await canal.snapshot() == before
        with pytest.raises(LeaseLostError):
            await take(consumer)
