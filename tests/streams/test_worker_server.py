"""A real worker whose server goes away, forgets or is full: it waits, and goes on."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from headgate.contract import JoinContract
from headgate.event import Lane, NewEvent
from headgate.join import read_records
from headgate.streams import Gate, Server, ServerUnavailableError, ensure_groups, set_gate
from streams.desk import QUICK, Desk, desk, eventually
from streams.servers import flush
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

BOTH = JoinContract(branches=("a", "b"), timeout_seconds=600)


@pytest.fixture
async def valkey(valkey_url: str):
    server = Server.connect(valkey_url)
    yield server
    await server.aclose()


async def cut_every_connection(canal: Desk) -> None:
    """Of workers; the next command of ours finds another."""
    for partition in canal.keys.all:
        with contextlib.suppress(Exception):
            await canal.command(partition.stats, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_cut_connections_lose_nothing_and_running_handlers_do_not_run_twice(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(concurrency=4))
            await canal.publish(*(NewEvent(id=f"held{n}", data={"do": "hold"}) for n in range(2)))
            workers.wait(lambda: len(workers.effects("begin")) == 2, "two handlers")
            published = 2
            for _ in range(10):
                await canal.publish(*({"do": "return"} for _ in range(20)))
                published += 20
                await cut_every_connection(canal)
            workers.release()
            figures = await canal.settled(events=published)
            began = workers.count("begin")
    assert figures.done == published
    assert set(began.values()) == {1}


async def test_cut_connections_settle_each_outcome_once(server: Server, tmp_path: Path) -> None:
    async with desk(server, ("a", "b"), partitions=2, join=BOTH) as canal:
        with workers_in(tmp_path, server.url) as workers:
            for branch in ("a", "b"):
                workers.start(canal.contract(branch, claim_after_seconds=2, retry=QUICK))
            published = 0
            for _ in range(10):
                await canal.publish(
                    *(NewEvent(data={"do": "fail-once" if n % 4 else "return"}) for n in range(20))
                )
                published += 20
                await cut_every_connection(canal)
            a, b = await canal.settled("a", published), await canal.settled("b", published)
        records = await read_records(server, canal.keys)
    assert (a.done, a.dead, b.done, b.dead) == (published, 0, published, 0)
    assert len(records) == len({record.id for record in records}) == published


async def test_a_flushed_server_is_gone_on_with_once_its_groups_are_there_again(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            worker = workers.start(canal.contract(claim_after_seconds=1))
            await canal.publish({"do": "return"})
            await canal.settled(events=1)
            flush(server.url)
            worker.wait_for("read.waiting")
            await ensure_groups(server, canal.keys, canal.branches)
            await canal.publish({"do": "return"}, {"do": "return"})
            assert (await canal.settled(events=2)).done == 2
            assert worker.exit_code is None


async def test_a_worker_started_before_its_branch_waits_for_it(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract("b"), wait_for="read.waiting")
            canal.branches = ("a", "b")
            await ensure_groups(valkey, canal.keys, canal.branches)
            worker.wait_for("worker.enlisted")
            await canal.publish({"do": "return"})
            assert (await canal.settled("b", 1)).done == 1


async def test_a_full_server_is_worked_empty(server: Server, tmp_path: Path) -> None:
    async with desk(server, ("a", "b"), join=BOTH) as canal:
        node = canal.keys.partition(0).stats
        await canal.publish(*({"do": "fail-once" if n == 0 else "return"} for n in range(500)))
        try:
            await canal.command(node, "CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(ServerUnavailableError, match="maxmemory"):
                await canal.publish({"do": "return"})
            with workers_in(tmp_path, server.url) as workers:
                for branch in ("a", "b"):
                    workers.start(canal.contract(branch, claim_after_seconds=0.5, retry=QUICK))
                a, b = await canal.settled("a", 500), await canal.settled("b", 500)

                async def trimmed() -> bool:
                    lane = canal.keys.partition(0).lane(Lane.NORMAL)
                    return await canal.command(lane, "XLEN", lane) < 300

                await eventually(trimmed, "the trim")
        finally:
            await canal.command(node, "CONFIG", "SET", "maxmemory", "0")
    assert (a.done, b.done, a.dead, b.dead) == (500, 500, 0, 0)


async def test_idle_workers_take_turns_and_each_event_goes_to_one(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            for _ in range(3):
                workers.start(canal.contract(concurrency=1))
            await canal.publish(*({"do": "hold"} for _ in range(3)))
            workers.wait(lambda: len(workers.effects("begin")) == 3, "three handlers")
            assert len({effect.pid for effect in workers.effects("begin")}) == 3
            workers.release()
            await canal.settled(events=3)
            assert set(workers.count("begin").values()) == {1}


async def test_a_busy_branch_does_what_is_urgent_first_and_what_its_gate_holds_last(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW})), 600)
        await canal.publish(
            *(
                NewEvent(id=f"{lane.value}{n}", data={"do": "return"}, lane=lane)
                for lane in (Lane.LOW, Lane.NORMAL, Lane.HIGH)
                for n in range(10)
            )
        )
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(concurrency=1))
            workers.wait(lambda: len(workers.effects("end")) == 20, "all that is not held back")
            lanes = [effect.lane for effect in workers.effects("begin")]
            assert lanes == ["high"] * 10 + ["normal"] * 10
            assert (await canal.measured()).branches["a"].lanes[Lane.LOW].backlog == 10
            await set_gate(server, canal.keys, "a", Gate.OPEN, 1)
            await canal.settled(events=30)


async def test_a_retry_wakes_an_idle_worker_and_so_does_what_another_worker_failed(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(retry=QUICK))
            await canal.publish(NewEvent(id="i", data={"do": "fail-once"}))
            assert (await canal.settled(events=1)).done == 1
            assert [effect.attempt for effect in workers.effects("begin")] == [1, 2]


async def test_joins_time_out_also_while_no_operator_looks(valkey: Server, tmp_path: Path) -> None:
    soon = JoinContract(branches=("a", "b"), timeout_seconds=0)
    async with desk(valkey, ("a", "b"), join=soon) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract("a", claim_after_seconds=0.3))
            await canal.publish(NewEvent(id="i", data={"do": "return"}))
            await canal.settled("a", 1)
            records = await eventually(lambda: read_records(valkey, canal.keys), "the record")
            worker.signal(signal.SIGTERM)
            assert worker.wait_ended() == 0
    (record,) = records
    assert (record.id, record.missing) == ("i", ("b",))


async def test_a_settle_the_server_refuses_for_good_ends_the_worker_loudly(
    valkey: Server, tmp_path: Path
) -> None:
    """Going on, it would hold the events under a living lease, where nobody can claim them."""
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            dead = canal.keys.partition(0).dead("a")
            await canal.command(dead, "SET", dead, "no stream")
            worker = workers.start(canal.contract())
            await canal.command(
                canal.keys.partition(0).lanes[1], "XADD", canal.keys.partition(0).lanes[1], "*", "x", "y"
            )
            assert worker.wait_ended() not in {0, None}
            assert worker.said("settle.refused") == 1
            assert "WRONGTYPE" in worker.log()
            await canal.command(dead, "DEL", dead)
            # What could not be written is not acked either: the next worker has it.
            assert (await canal.measured()).branches["a"].pending == 1
