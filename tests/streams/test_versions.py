"""Versions between and beyond those the other tests run on: a whole pipeline works on them too."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from headgate.streams import Replicated, Server
from streams.desk import desk
from streams.fleets import pair
from streams.load import BRANCHES, JOIN, check_once, load, start_workers
from streams.servers import newer_server
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "version"),
    [("redis-server-8", "redis_version:8."), ("valkey-server-8", "valkey_version:8.")],
)
async def test_a_pipeline_works_on_a_newer_server_also_when_its_workers_die(
    name: str, version: str, tmp_path: Path
) -> None:
    with pair(newer_server(name)) as (master, _), workers_in(tmp_path, master.url) as workers:
        key, _, prefix = version.partition(":")
        assert str(master.call("INFO", "server")[key]).startswith(prefix)
        async with (
            aclosing(Server.connect(master.url)) as server,
            desk(server, BRANCHES, partitions=2, join=JOIN) as canal,
        ):
            start_workers(canal, workers)
            async with load(canal, Replicated(1, 5)) as publishing:
                await publishing.more(200)
                workers.started[0].kill()
                start_workers(canal, workers)
                await publishing.more(200)
                published = await publishing.stop()
            await check_once(canal, published)
