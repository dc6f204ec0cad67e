"""A branch whose target is gone: closed, it reads nothing and loses nothing, and it is opened again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

from headgate.contract import SharesContract
from headgate.event import Lane, NewEvent
from headgate.streams import (
    Gate,
    Server,
    close_branch,
    ensure_groups,
    open_branch,
    read_closed,
    remove_pipeline,
    reopen_if_moved,
    set_gate,
)
from headgate.streams.outcome import NO_TURN, Turn
from headgate.streams.waiter import Waiter
from headgate.worker.intake import Intake
from headgate.worker.reader import BATCH, Reader
from streams.desk import desk, eventually, retried, take

if TYPE_CHECKING:
    from headgate.streams.outcome import Delivery

URL = "https://user:hush@target.example/events?token=hush"
SHOWN = "https://target.example/events"


async def test_a_closed_branch_reads_nothing_whatever_waits_and_all_of_it_when_opened(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("again")
        consumer = await canal.consumer()
        await consumer.settle([retried(delivery) for delivery in await take(consumer)])
        await canal.publish(*(NewEvent(data=lane.value, lane=lane) for lane in Lane))
        assert await close_branch(server, canal.keys, "a", "answered 410", URL)
        for turn in (NO_TURN, Turn(10, 10)):
            deliveries, due_ms, held = (await consumer.read(100, turn))[:3]
            assert (deliveries, due_ms, held) == ([], -1, 8)
        assert await open_branch(server, canal.keys, "a")

        read: list[str] = []

        async def everything() -> bool:
            read.extend(delivery.event.data for delivery in await take(consumer))
            return len(read) == 4

        await eventually(everything, "everything that waited")
        assert sorted(read) == ["again", "high", "low", "normal"]


async def test_it_closes_for_its_own_branch_only_and_on_every_partition(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=3) as canal:
        await canal.publish(*range(12))
        await close_branch(server, canal.keys, "a", "gone", URL)
        for number in range(3):
            consumer = await canal.consumer(branch="a", partition=number)
            assert await take(consumer) == []
        read = [await take(await canal.consumer("w2.x", "b", number)) for number in range(3)]
        assert sum(len(part) for part in read) == 12
        figures = await canal.measured()
        assert (figures.branches["a"].gate, figures.branches["b"].gate) == ("closed", "open")
        assert figures.branches["a"].backlog == 12


async def test_the_first_reason_stays_and_no_secret_is_kept(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        assert await read_closed(server, canal.keys, "a") is None
        assert await close_branch(server, canal.keys, "a", "first", URL)
        assert not await close_branch(server, canal.keys, "a", "second", URL)
        closed = await read_closed(server, canal.keys, "a")
        assert closed is not None
        assert (closed.reason, closed.target) == ("first", SHOWN)
        assert closed.at[:2] == "20"
        for partition in canal.keys.all:
            mark = await canal.command(partition.closed("a"), "GET", partition.closed("a"))
            assert b"hush" not in mark
            assert await canal.command(partition.closed("a"), "TTL", partition.closed("a")) == -1


async def test_opening_says_whether_it_was_closed(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        assert not await open_branch(server, canal.keys, "a")
        await close_branch(server, canal.keys, "a", "gone", URL)
        assert await open_branch(server, canal.keys, "a")
        assert await read_closed(server, canal.keys, "a") is None
        assert not await open_branch(server, canal.keys, "a")


async def test_a_branch_closed_on_one_partition_only_counts_as_closed(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        name = canal.keys.partition(0).closed("a")
        await canal.command(name, "SET", name, "by hand")
        await set_gate(server, canal.keys, "a", Gate(delayed=frozenset({Lane.LOW})), 60)
        closed = await read_closed(server, canal.keys, "a")
        assert closed is not None
        assert closed.reason == "by hand"
        assert (await canal.measured()).branches["a"].gate == "closed"
        assert await close_branch(server, canal.keys, "a", "gone", URL)
        assert await open_branch(server, canal.keys, "a")


async def test_another_target_opens_it_and_the_same_does_not(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        assert not await reopen_if_moved(server, canal.keys, "a", URL)
        await close_branch(server, canal.keys, "a", "gone", URL)
        assert not await reopen_if_moved(server, canal.keys, "a", URL)
        assert await read_closed(server, canal.keys, "a") is not None
        assert await reopen_if_moved(server, canal.keys, "a", URL.replace("=hush", "=new"))
        assert await read_closed(server, canal.keys, "a") is None


async def test_what_was_closed_by_hand_only_a_hand_opens(server: Server) -> None:
    async with desk(server) as canal:
        name = canal.keys.partition(0).closed("a")
        for mark in ("maintenance", '{"reason": "r", "target": "t", "at": "now"}', "\xff"):
            await canal.command(name, "SET", name, mark)
            assert not await reopen_if_moved(server, canal.keys, "a", URL)
            assert await open_branch(server, canal.keys, "a")


async def test_a_removed_branch_and_a_removed_pipeline_leave_no_mark(server: Server) -> None:
    async with desk(server, ("a", "b")) as canal:
        for branch in ("a", "b"):
            await close_branch(server, canal.keys, branch, "gone", URL)
        await ensure_groups(server, canal.keys, ["b"])
        assert await read_closed(server, canal.keys, "a") is None
        assert await read_closed(server, canal.keys, "b") is not None
        await remove_pipeline(server, canal.keys)
        assert await canal.snapshot() == {}


async def test_ensuring_the_groups_again_leaves_it_closed(server: Server) -> None:
    async with desk(server) as canal:
        await close_branch(server, canal.keys, "a", "gone", URL)
        await ensure_groups(server, canal.keys, ["a"])
        assert await read_closed(server, canal.keys, "a") is not None


async def test_neither_a_rush_nor_a_wait_passes_by_a_closed_gate(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3 * BATCH))
        read: list[Delivery] = []
        consumer = await canal.consumer()
        waiter = Waiter(server, [consumer], "a")
        reader = Reader([consumer], waiter, Intake(10 * BATCH, 1), read.extend, SharesContract())
        try:
            await reader.turn()
            assert len(read) == BATCH
            assert not reader.found_closed
            await close_branch(server, canal.keys, "a", "gone", URL)
            await asyncio.sleep(0.06)  # a rush under way ends
            await asyncio.wait_for(reader.turn(), 5)
            assert reader.found_closed
            turn = asyncio.create_task(reader.turn())
            await asyncio.sleep(0.2)
            await canal.publish("new")
            await turn
            assert len(read) == BATCH
            await open_branch(server, canal.keys, "a")
            while len(read) < 3 * BATCH + 1:
                await asyncio.wait_for(reader.turn(), 5)
        finally:
            waiter.close()


async def test_headgate_open_opens_and_says_what_was_wrong(valkey_url: str) -> None:
    server = Server.connect(valkey_url)

    def headgate(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "headgate_cli.main",
            "open",
            "--redis-url",
            valkey_url,
            "-p",
            "test/canal",
        ]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)

    async with desk(server, ("a", "b"), partitions=2) as canal:
        await close_branch(server, canal.keys, "a", "POST https://t/ answered 410", URL)
        said = await asyncio.to_thread(headgate, "-b", "a")
        assert said.returncode == 0
        assert said.stdout.startswith("a: opened; it was closed at 20")
        assert "POST https://t/ answered 410" in said.stdout
        assert await read_closed(server, canal.keys, "a") is None
        again = await asyncio.to_thread(headgate, "-b", "a")
        assert (again.returncode, again.stdout) == (0, "a: was open\n")
        wrong = await asyncio.to_thread(headgate, "-b", "c")
        assert wrong.returncode == 1
        assert "test/canal has no branch 'c'; it has a, b" in wrong.stderr
    await server.aclose()
