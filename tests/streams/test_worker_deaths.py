"""A real worker that is killed, frozen or retired: nothing is lost, and nothing takes effect twice."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from headgate.contract import Executor, JoinContract
from headgate.event import Lane, NewEvent
from headgate.handlers.python import LoopHandler
from headgate.join import read_records
from headgate.streams import Server, ensure_groups, read_dead_letters, retire
from headgate.worker.worker import Worker
from streams.desk import QUICK, desk, done, eventually, take
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.event import Event

JOIN = JoinContract(branches=("a", "b"), timeout_seconds=600)


@pytest.fixture
async def valkey(valkey_url: str):
    server = Server.connect(valkey_url)
    yield server
    await server.aclose()


async def test_a_worker_killed_mid_handler_loses_and_doubles_nothing(server: Server, tmp_path: Path) -> None:
    count = 60
    async with desk(server, ("a", "b"), partitions=2, join=JOIN) as canal:
        with workers_in(tmp_path, server.url) as workers:
            of_a = canal.contract("a", concurrency=4, claim_after_seconds=1, retry=QUICK)
            victim = workers.start(of_a)
            workers.start(canal.contract("b", claim_after_seconds=1))
            await canal.publish(
                *(
                    NewEvent(id=f"e{n}", data={"do": "hold" if n % 5 == 0 else "return", "result": n})
                    for n in range(count)
                )
            )
            workers.wait(lambda: len(workers.effects("begin")) > 20, "handlers under way")
            victim.kill()
            heir = workers.start(of_a)
            workers.release()
            a, b = await canal.settled("a", count), await canal.settled("b", count)
            assert heir.said("worker.claimed")
        records = await read_records(server, canal.keys)
        figures = await canal.measured()
    assert (a.done, b.done, a.dead + b.dead) == (count, count, 0)
    assert sorted(record.id for record in records) == sorted(f"e{n}" for n in range(count))
    assert all(record.results == {"a": int(record.id[1:]), "b": int(record.id[1:])} for record in records)
    assert (figures.joined, figures.partial, figures.open_joins) == (count, 0, 0)


async def test_a_worker_frozen_past_its_lease_is_fenced_and_works_on_under_a_new_one(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, ("a", "b"), join=JOIN) as canal:
        with workers_in(tmp_path, server.url) as workers:
            of_a = canal.contract("a", concurrency=2, claim_after_seconds=1, retry=QUICK)
            frozen = workers.start(of_a)
            workers.start(canal.contract("b"))
            await canal.publish(
                *(NewEvent(id=f"held{n}", data={"do": "hold", "result": 1}) for n in range(2))
            )
            workers.wait(lambda: len(workers.effects("begin")) >= 4, "handlers of both branches")
            frozen.signal(signal.SIGSTOP)
            heir = workers.start(of_a)
            workers.wait(lambda: heir.said("worker.claimed"), "the claim")
            workers.release()
            first = await canal.settled("a", 2)
            frozen.signal(signal.SIGCONT)
            frozen.wait_for("worker.enlisted", 2)
            heir.terminate()
            assert heir.wait_ended() == 0
            await canal.publish(NewEvent(id="after", data={"do": "return"}))
            second = await canal.settled("a", 3)
            await canal.settled("b", 3)
            frozen.terminate()
            assert frozen.wait_ended() == 0
        records = await read_records(server, canal.keys)
    assert (first.done, second.done, second.dead, second.retried) == (2, 3, 0, 0)
    assert sorted(record.id for record in records) == ["after", "held0", "held1"]


async def test_a_worker_whose_lease_was_ended_while_it_handles_still_settles_what_it_claims_back(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract(claim_after_seconds=1))
            await canal.publish(*({"do": "hold"} for _ in range(3)))
            workers.wait(lambda: len(workers.effects("begin")) == 3, "three handlers")
            await retire(valkey, canal.keys, "a", worker.name)
            worker.wait_for("worker.enlisted", 2)
            worker.wait_for("worker.claimed")
            workers.release()
            figures = await canal.settled(events=3)
            began = workers.count("begin")
    assert figures.done == 3
    assert set(began.values()) == {1}, "what it holds again is not handled again"


async def test_a_new_worker_takes_what_the_dead_left_as_soon_as_it_has_a_lease(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        await canal.publish(*({"do": "nothing"} for _ in range(3)))
        dead = await canal.consumer("w0.x")
        assert len(await take(dead)) == 3
        await dead.release()
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(claim_after_seconds=600))  # the next heartbeat is in 200 s
            figures = await canal.settled(events=3)
    assert figures.done == 3


async def test_an_event_that_ends_every_worker_it_is_given_to_is_dead_lettered(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            contract = canal.contract(claim_after_seconds=1, retry=QUICK, concurrency=1)
            await canal.publish(NewEvent(id="poison", data={"do": "hold"}))
            for attempt in (1, 2, 3):
                worker = workers.start(contract)
                workers.wait(lambda n=attempt: len(workers.effects("begin")) == n, f"attempt {attempt}")
                worker.kill()
                await retire(valkey, canal.keys, "a", worker.name)
            workers.start(contract)
            await canal.settled(events=1)
            assert workers.count("begin") == {"poison": 3}
        (letter,) = await read_dead_letters(valkey, canal.keys, "a")
    assert letter.id == "poison"
    assert "never settled" in letter.error


async def test_a_worker_claims_no_more_from_the_dead_at_a_time_than_its_slots_handle(server: Server) -> None:
    """One of the events may have ended their worker: all that is claimed with it is tried once more for nothing."""
    async with desk(server) as canal:
        await canal.publish(*range(60))
        dead = await canal.consumer("w0.x")
        await take(dead)
        await dead.release()

        async def nothing(_: Event) -> None:
            raise AssertionError("no slot runs here")

        worker = Worker(server, canal.contract(concurrency=2), LoopHandler(nothing), "w1")
        await worker._enlist()
        worker._intake.observe(0.00001)  # its handlers are fast: it reads far ahead
        assert worker._intake.free > 60
        await worker._heart.beat(worker._flow)
        await worker._heart.beat(worker._flow)
        assert worker._intake.held == 2
        worker._flow._settlers[0].add(done(*list(worker._intake.known[0].values())[:1]))
        await worker._flow._settlers[0].drain()
        await worker._heart.beat(worker._flow)
        assert worker._intake.held == 2
        worker._wires.close()
        assert sorted((await canal.measured()).branches["a"].holding.values()) == [2, 57]


async def test_what_a_settle_was_refused_for_the_sake_of_another_lanes_lost_group_is_handled_again(
    server: Server,
) -> None:
    async with desk(server, ("a", "b"), join=JOIN) as canal:
        await canal.publish(NewEvent(data=1, id="low", lane=Lane.LOW), NewEvent(data=2, id="normal"))

        async def nothing(_: Event) -> None:
            raise AssertionError("no slot runs here")

        worker = Worker(server, canal.contract(claim_after_seconds=0.3), LoopHandler(nothing), "w1")
        await worker._enlist()
        held = await take(worker._consumers[0])
        worker._intake.take(held)
        low = canal.keys.partition(0).lanes[2]
        await canal.command(low, "XGROUP DESTROY", low, "a")
        for delivery in sorted(held, key=lambda each: each.event.id):
            worker._flow.settle(done(delivery))
        await worker._flow._settlers[0].drain()
        await ensure_groups(server, canal.keys, ("a", "b"))
        await worker._enlist()

        async def claimed_again() -> set[str]:
            await worker._heart.beat(worker._flow)
            return {each.event.id for each in worker._intake.known[0].values()}

        assert await eventually(claimed_again, "what stayed pending comes again", 5) == {"normal"}
        worker._wires.close()


async def test_all_that_a_dead_worker_held_is_claimed_as_fast_as_it_is_handled(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        await canal.publish(*(NewEvent(data={"do": "return"}) for _ in range(300)))
        dead = await canal.consumer("w0.x")
        await take(dead, 300)
        await dead.release()
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(claim_after_seconds=6, concurrency=4))
            await canal.settled(events=300)  # at one claim a heartbeat this took minutes


async def test_the_processes_of_a_killed_worker_do_not_outlive_it(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(
                canal.contract(function="streams.effects:act_plain", executor=Executor.PROCESSES)
            )
            await canal.publish({"do": "hang"})
            workers.wait(lambda: workers.effects("begin"), "the handler")
            (effect,) = workers.effects("begin")
            assert effect.pid != worker.pid
            worker.signal(signal.SIGKILL)
            workers.wait(lambda: not is_running(effect.pid), "the process's end")


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - no path to build
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
