"""A server that goes away and comes back: publishes and workers wait for it, for as long as that is harmless."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import redis

from headgate.event import NewEvent
from headgate.streams import Publisher, Replicated, Server, ServerUnavailableError
from streams.desk import desk
from streams.fleets import Node, single
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

# It keeps what it was given over a kill, and takes its time to read it.
KEEPING = ["--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "500"]
SLOWLY = [*KEEPING, "--loading-process-events-interval-bytes", "1024", "--aof-use-rdb-preamble", "no"]


@pytest.fixture
def node() -> Iterator[Node]:
    with single(SLOWLY) as running:
        yield running


@pytest.fixture
async def server(node: Node) -> AsyncIterator[Server]:
    async with aclosing(Server.connect(node.url)) as connected:
        yield connected


async def test_a_publish_outlives_the_server_and_is_there_once(server: Server, node: Node) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(200))
        node.kill()
        publishing = asyncio.create_task(canal.publish(*(NewEvent(id=f"e{n}", data=n) for n in range(150))))
        await asyncio.sleep(0.3)
        assert not publishing.done()
        await asyncio.to_thread(node.start)
        receipts = await publishing
        assert len({receipt.entry for receipt in receipts}) == 150
        assert (await canal.measured()).published == 350


@pytest.mark.parametrize("durability", [None, Replicated(1, 1)])
async def test_a_publish_gives_up_when_its_time_is_over(
    server: Server, node: Node, durability: Replicated | None
) -> None:
    async with desk(server) as canal:
        node.kill()
        since = time.monotonic()
        with pytest.raises(ServerUnavailableError, match=str(node.port)):
            await Publisher(server, canal.keys, durability=durability, retry_seconds=0.5).publish(
                [NewEvent(data=1)]
            )
        assert time.monotonic() - since >= 0.5


async def test_without_a_dedupe_window_nothing_is_asked_twice(server: Server, node: Node) -> None:
    """Nobody can say then whether a cut connection had published before it was cut."""
    async with desk(server) as canal:
        publisher = Publisher(server, canal.keys, dedupe_window_seconds=0, retry_seconds=60)
        await publisher.publish([NewEvent(data=1)])
        node.kill()
        since = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            await publisher.publish([NewEvent(data=2)])
        assert time.monotonic() - since < 30  # and not the minute it may try for


async def test_a_cut_connection_is_no_error_for_who_only_looks(server: Server, node: Node) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(5))
        for _ in range(5):
            node.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert (await canal.measured()).published == 5


async def test_a_worker_waits_while_the_server_loads_its_data(
    server: Server, node: Node, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            worker = workers.start(canal.contract(concurrency=2))
            await canal.publish(*({"do": "hold"} for _ in range(2)))
            workers.wait(lambda: len(workers.effects("begin")) == 2, "two handlers")
            await canal.publish(*({"do": "return"} for _ in range(3000)))
            node.kill()
            workers.release()
            await asyncio.to_thread(node.start, lambda: is_loading(node))
            worker.wait_for("LOADING")
            assert (await canal.settled(events=3002)).done == 3002
            assert worker.exit_code is None


def is_loading(node: Node) -> bool:
    try:
        return bool(node.call("PING"))
    except redis.BusyLoadingError:
        return True
    except (redis.ConnectionError, redis.TimeoutError):
        return False
