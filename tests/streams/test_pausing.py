"""A paused branch takes nothing, loses nothing, and no other hold is undone with the pause."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from headgate.contract import Ordering
from headgate.event import NewEvent
from headgate.streams import (
    BranchStart,
    Ensured,
    Server,
    close_branch,
    ensure_groups,
    open_branch,
    read_closed,
)
from streams.desk import QUICK, Desk, desk, done, eventually, retried, take
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path


async def pause(canal: Desk, *, paused: bool = True) -> Ensured:
    return await ensure_groups(canal.server, canal.keys, [BranchStart("a", paused=paused), "b"])


async def test_a_paused_branch_reads_nothing_on_any_partition_and_others_read_on(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=2) as canal:
        assert (await pause(canal)).changes == 2
        assert await pause(canal) == Ensured()
        await canal.publish(*range(20))
        for number in range(2):
            consumer = await canal.consumer("w1.x", "a", number)
            assert (await consumer.read(100))[:3] == ([], -1, 16)
        others = [await take(await canal.consumer("w2.x", "b", number)) for number in range(2)]
        assert sum(map(len, others)) == 20
        assert (await canal.measured()).branches["a"].backlog == 20
        assert (await pause(canal, paused=False)).changes == 2
        read = [await take(await canal.consumer("w3.x", "a", number)) for number in range(2)]
        assert sum(map(len, read)) == 20


async def test_retries_that_are_due_wait_with_the_rest(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1)
        consumer = await canal.consumer()
        await consumer.settle([retried(delivery) for delivery in await take(consumer)])
        await pause(canal)
        assert await consumer.ripen() == -1
        assert await take(consumer) == []
        await pause(canal, paused=False)
        assert await consumer.ripen() == -1
        (again,) = await take(consumer)
        assert again.event.attempt == 2


async def test_unpausing_leaves_a_branch_closed_whose_target_is_gone_and_opening_leaves_it_paused(
    server: Server,
) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1)
        consumer = await canal.consumer()
        await close_branch(server, canal.keys, "a", "410", "https://t.example/")
        await pause(canal)
        await pause(canal, paused=False)
        assert await read_closed(server, canal.keys, "a") is not None
        assert (await consumer.read(1))[2] == 8
        await pause(canal)
        await open_branch(server, canal.keys, "a")
        assert (await consumer.read(1))[2] == 16
        await pause(canal, paused=False)
        assert len(await take(consumer)) == 1


async def test_what_is_held_when_it_is_paused_may_be_settled(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        await canal.publish(1)
        consumer = await canal.consumer()
        held = await take(consumer)
        await pause(canal)
        assert (await consumer.settle([done(delivery) for delivery in held])).count == 1


def unready(port: int) -> str:
    """Why a worker is not ready; empty when it is."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
    except urllib.error.HTTPError as error:
        return str(error.read())
    return ""


@pytest.mark.parametrize("settings", [{}, {"ordering": Ordering.KEY}, {"rate_limit": 1000}])
async def test_real_workers_stop_and_go_on(
    server: Server, tmp_path: Path, settings: dict[str, object]
) -> None:
    async with desk(server, ("a", "b")) as canal:
        await pause(canal)
        with workers_in(tmp_path, server.url) as workers:
            worker = workers.start(canal.contract(retry=QUICK, **settings))
            await canal.publish(*(NewEvent(id=f"e{n}", key="k", data={"do": "return"}) for n in range(50)))

            async def is_paused() -> bool:
                said = await asyncio.to_thread(unready, worker.port)
                return "the branch is paused by its manifest" in said

            await eventually(is_paused, "the worker to say that the branch is paused")
            assert workers.count("begin") == {}
            await pause(canal, paused=False)
            await canal.settled(events=50)
            assert workers.count("end") == {f"e{n}": 1 for n in range(50)}
