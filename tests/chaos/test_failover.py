"""A master that dies or freezes under load: workers and publishers go on at its heir, nothing lost, nothing twice.

What is checked is what was waited for: without `Replicated` a failover may lose what was acknowledged.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from headgate.streams import Replicated, Server
from streams.desk import desk
from streams.fleets import Node, cluster_with_replicas, sentinels, until
from streams.load import BRANCHES, JOIN, check_once, load, start_workers
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("strike", [Node.kill, Node.freeze])
async def test_a_master_behind_sentinels_dies_and_nothing_waited_for_is_lost_or_doubled(
    strike, tmp_path: Path
) -> None:
    with sentinels() as fleet, workers_in(tmp_path, fleet.url) as workers:
        async with (
            aclosing(Server.connect(fleet.url)) as server,
            desk(server, BRANCHES, partitions=2, join=JOIN) as canal,
        ):
            start_workers(canal, workers, each=2)
            async with load(canal, Replicated(1, 2)) as publishing:
                await publishing.more()
                old = fleet.master
                strike(old)
                until(lambda: fleet.master is not old, "the sentinels' choice")
                await publishing.more()
                old.thaw()  # it becomes a replica, and whoever still talks to it must notice
                await publishing.more()
                published = await publishing.stop()
            await check_once(canal, published)
            assert all(worker.exit_code is None for worker in workers.started)


@pytest.mark.parametrize("strike", [Node.kill, Node.freeze])
async def test_a_clusters_master_dies_and_nothing_waited_for_is_lost_or_doubled(
    strike, tmp_path: Path
) -> None:
    with cluster_with_replicas() as fleet, workers_in(tmp_path, fleet.url) as workers:
        async with (
            aclosing(Server.connect(fleet.url)) as server,
            desk(server, BRANCHES, partitions=3, join=JOIN) as canal,
        ):
            key = canal.keys.partition(0).stats
            start_workers(canal, workers, each=2)
            async with load(canal, Replicated(1, 2)) as publishing:
                await publishing.more()
                old = fleet.master_of(key)
                strike(old)
                until(lambda: fleet.master_of(key) is not old, "the replica's promotion")
                old.thaw()  # WAIT needs a replica; a killed one is started again
                old.revive()
                await publishing.more()
                published = await publishing.stop()
            await check_once(canal, published)
            assert all(worker.exit_code is None for worker in workers.started)
