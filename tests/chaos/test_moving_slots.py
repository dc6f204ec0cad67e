"""Slots of a cluster that move under load: who asks there meanwhile asks again, and loses nothing."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING

from headgate.streams import Server
from streams.desk import desk
from streams.fleets import cluster_with_replicas
from streams.load import BRANCHES, JOIN, check_once, load, start_workers
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

PARTITIONS = 3
MOVES = 8


async def test_slots_that_move_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    with cluster_with_replicas() as fleet, workers_in(tmp_path, fleet.url) as workers:
        async with (
            aclosing(Server.connect(fleet.url)) as server,
            desk(server, BRANCHES, partitions=PARTITIONS, join=JOIN) as canal,
        ):
            start_workers(canal, workers, each=2)
            async with load(canal) as publishing:
                for _ in range(MOVES):
                    await publishing.more(100)
                    key = canal.keys.partition(dice.randrange(PARTITIONS)).stats
                    before = fleet.master_of(key)
                    # As long as a worker's lease, and with half of the keys here and half there.
                    await asyncio.to_thread(fleet.move, key, dice.choice([0, 1, 3]))
                    assert fleet.master_of(key) is not before, seed
                published = await publishing.stop()
            await check_once(canal, published)
            assert all(worker.exit_code is None for worker in workers.started), seed


async def test_a_slot_that_moves_under_busy_handlers_leaves_them_able_to_settle(tmp_path: Path) -> None:
    """No reader has room then, so it is the settle itself that must find the new node."""
    with cluster_with_replicas() as fleet, workers_in(tmp_path, fleet.url) as workers:
        async with aclosing(Server.connect(fleet.url)) as server, desk(server) as canal:
            workers.start(canal.contract(concurrency=1, claim_after_seconds=5))
            await canal.publish({"do": "hold"}, {"do": "return"})
            workers.wait(lambda: workers.effects("begin"), "the handler")
            await asyncio.to_thread(fleet.move, canal.keys.partition(0).stats)
            workers.release()
            assert (await canal.settled(events=2)).done == 2
            assert set(workers.count("begin").values()) == {1}
