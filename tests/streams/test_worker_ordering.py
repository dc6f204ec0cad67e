"""Real workers of an ordered branch: order by key, whatever fails, dies, freezes or comes and goes."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import BatchSettings, BranchContract, Ordering, RetryContract
from headgate.event import Lane, NewEvent
from headgate.handlers.python import LoopHandler
from headgate.streams import Gate, Server, read_dead_letters, retire, set_gate
from headgate.streams.owner import PartitionOwner, Wish
from headgate.worker.worker import Worker
from streams.desk import Desk, desk, eventually
from streams.ordered_effects import Line, misordered, read_lines
from streams.workers import WorkerProcess, Workers, workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.event import Event

# Attempts enough for whatever is done to the workers: nothing here fails by its own fault.
RETRY = RetryContract(max_attempts=100, initial_seconds=0.05, factor=1, max_seconds=0.05)
SLOW = RetryContract(max_attempts=3, initial_seconds=1.5, factor=1, max_seconds=1.5)


@pytest.fixture
async def valkey(valkey_url: str):
    server = Server.connect(valkey_url)
    yield server
    await server.aclose()


def contract(canal: Desk, **settings: Any) -> BranchContract:
    chosen = {
        "function": "streams.ordered_effects:act",
        "ordering": Ordering.KEY,
        "claim_after_seconds": 3,
        "retry": RETRY,
    }
    return canal.contract(**(chosen | settings))


def of_key(key: str, number: int, do: str = "return", seconds: float = 0, **settings: Any) -> NewEvent:
    """Event `number` of a key; its id says both."""
    data = {"do": do, "seconds": seconds}
    return NewEvent(id=f"{key}.{number}", key=key, data=data, **settings)


def began(workers: Workers) -> list[Line]:
    return [line for line in read_lines(workers.effects_path) if line.what == "begin"]


def taken_by(worker: WorkerProcess) -> int:
    """How many partitions a worker has, by what it said."""
    return worker.said("partition.taken") - worker.said("partition.given")


async def test_events_of_a_key_are_handled_one_after_another_in_the_order_they_were_published(
    server: Server, tmp_path: Path
) -> None:
    keys = [f"k{n}" for n in range(8)]
    async with desk(server, partitions=3) as canal:
        for number in range(20):
            do = "fail-once" if number % 7 == 3 else "return"
            await canal.publish(*(of_key(key, number, do) for key in keys))
        with workers_in(tmp_path, server.url) as workers:
            workers.start(contract(canal))
            figures = await canal.settled(events=160)
            lines = read_lines(workers.effects_path)
    assert (figures.done, figures.dead) == (160, 0)
    assert misordered(lines) == []
    assert sum(line.what == "end" for line in lines) == 160


async def test_a_key_waits_for_its_own_retry_and_no_other_key_does(server: Server, tmp_path: Path) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(contract(canal, retry=SLOW, concurrency=2))
            await canal.publish(of_key("bad", 0, "fail-once"), *(of_key("bad", n) for n in (1, 2)))
            await canal.publish(*(of_key(f"good{n % 4}", n // 4) for n in range(200)))
            workers.wait(lambda: sum(line.key != "bad" for line in began(workers)) == 200, "the other keys")
            assert [line.number for line in began(workers) if line.key == "bad"] == [0]
            figures = await canal.settled(events=203)
            lines = read_lines(workers.effects_path)
    assert (figures.done, figures.retried) == (203, 1)
    assert misordered(lines) == []
    assert {line.attempt for line in lines if line.key == "bad" and line.number > 0} == {1}


async def test_a_dead_letter_lets_its_key_go_on(server: Server, tmp_path: Path) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            quick = RetryContract(max_attempts=2, initial_seconds=0.05, factor=1, max_seconds=0.05)
            workers.start(contract(canal, retry=quick))
            await canal.publish(of_key("k", 0, "fail"), *(of_key("k", n) for n in range(1, 30)))
            figures = await canal.settled(events=30)
            order = [(line.number, line.attempt) for line in began(workers)]
        (letter,) = await read_dead_letters(server, canal.keys, "a")
        blocked = canal.keys.partition(0).blocked("a")
        assert await canal.command(blocked, "EXISTS", blocked) == 0
    assert (figures.done, figures.dead, letter.id) == (29, 1, "k.0")
    assert order == [(0, 1), (0, 2), *((n, 1) for n in range(1, 30))]


async def test_events_without_a_key_are_handled_side_by_side(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(contract(canal, function="streams.effects:act", concurrency=4))
            await canal.publish(*({"do": "hold"} for _ in range(4)))
            workers.wait(lambda: len(workers.effects("begin")) == 4, "all four at once")
            workers.release()
            await canal.settled(events=4)


async def test_workers_share_the_partitions_as_they_come_and_go(server: Server, tmp_path: Path) -> None:
    async with desk(server, partitions=5) as canal:
        with workers_in(tmp_path, server.url) as workers:
            first = workers.start(contract(canal))
            workers.wait(lambda: taken_by(first) == 5, "all partitions for one")
            second = workers.start(contract(canal))
            workers.wait(lambda: sorted(map(taken_by, (first, second))) == [2, 3], "halves")
            third = workers.start(contract(canal))
            workers.wait(lambda: sorted(map(taken_by, (first, second, third))) == [1, 2, 2], "thirds")
            first.terminate()
            assert first.wait_ended() == 0, first.log()[-3000:]
            workers.wait(lambda: sorted(map(taken_by, (second, third))) == [2, 3], "halves again")
            await canal.publish(*(of_key(f"k{n}", 0) for n in range(20)))
            await canal.settled(events=20)


async def test_a_killed_workers_partitions_work_on_within_seconds_and_in_order(
    server: Server, tmp_path: Path, record_property
) -> None:
    count, keys = 600, 30
    async with desk(server, partitions=4) as canal:
        with workers_in(tmp_path, server.url) as workers:
            victim, other = workers.start(contract(canal)), workers.start(contract(canal))
            workers.wait(lambda: taken_by(victim) == taken_by(other) == 2, "two partitions each")
            await canal.publish(*(of_key(f"k{n % keys}", n // keys, seconds=0.01) for n in range(count)))
            workers.wait(lambda: len(began(workers)) > 50, "handlers under way")
            owners = [partition.owner("a") for partition in canal.keys.all]
            tokens = [int(await canal.command(owner, "HGET", owner, "token")) for owner in owners]
            victim.kill()
            killed = time.monotonic()
            workers.wait(lambda: taken_by(other) == 4, "the other to take all")
            rebalanced = time.monotonic() - killed
            figures = await canal.settled(events=count)
            lines = read_lines(workers.effects_path)
    print(f"rebalanced {rebalanced:.2f} s after kill -9")  # noqa: T201 - the figure that the promise is about
    record_property("rebalanced_seconds", rebalanced)
    assert (figures.done, figures.dead) == (count, 0)
    assert misordered(lines) == []
    after = {line.partition: line.token for line in lines if line.what == "begin"}
    grown = [partition for partition, token in after.items() if token > tokens[partition]]
    assert len(grown) == 2, "only the partitions of the dead changed hands"


async def test_a_frozen_workers_partitions_change_hands_and_it_begins_nothing_when_it_thaws(
    server: Server, tmp_path: Path
) -> None:
    count, keys = 200, 10
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            of_branch = contract(canal, claim_after_seconds=1, concurrency=2)
            frozen = workers.start(of_branch)
            await canal.publish(*(of_key(f"k{n % keys}", n // keys, seconds=0.01) for n in range(count)))
            workers.wait(lambda: len(began(workers)) > 20, "handlers under way")
            frozen.signal(signal.SIGSTOP)
            heir = workers.start(of_branch)
            workers.wait(lambda: taken_by(heir) == 2, "the heir to take all")
            workers.wait(lambda: len(began(workers)) > 100, "the heir at work")
            frozen.signal(signal.SIGCONT)
            frozen.wait_for("worker.enlisted", 2)
            figures = await canal.settled(events=count)
            lines = read_lines(workers.effects_path)
            assert frozen.exit_code is None
    assert (figures.done, figures.dead) == (count, 0)
    assert misordered(lines) == []


async def test_what_a_draining_worker_has_not_begun_is_the_next_owners_in_order_and_nobodys_attempt(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            leaving = workers.start(contract(canal, concurrency=1))
            await canal.publish(*(of_key("k", n, seconds=6 if n == 0 else 0) for n in range(15)))
            workers.wait(lambda: began(workers), "the first")
            heir = workers.start(contract(canal))
            leaving.terminate()
            assert leaving.wait_ended() == 0
            figures = await canal.settled(events=15)
            lines = read_lines(workers.effects_path)
            assert taken_by(heir) == 1
    assert figures.done == 15
    assert misordered(lines) == []
    assert [(line.number, line.attempt) for line in lines if line.what == "begin"] == [
        (n, 1) for n in range(15)
    ]


async def test_connections_cut_under_load_lose_double_and_misorder_nothing(
    server: Server, tmp_path: Path
) -> None:
    count, keys = 1000, 20
    async with desk(server, partitions=3) as canal:
        with workers_in(tmp_path, server.url) as workers:
            for _ in range(2):
                workers.start(contract(canal))
            for number in range(0, count, 100):
                await canal.publish(
                    *(
                        of_key(f"k{n % keys}", n // keys, "fail-once" if n % 13 == 0 else "return", 0.001)
                        for n in range(number, number + 100)
                    )
                )
                node = canal.keys.partition(number // 100 % 3).stats
                await canal.command(node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(0.2)
                await server.rediscover()
            figures = await canal.settled(events=count)
            lines = read_lines(workers.effects_path)
    assert (figures.done, figures.dead) == (count, 0)
    assert misordered(lines) == []


async def test_batches_have_one_event_of_a_key_at_a_time(server: Server, tmp_path: Path) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            batch = BatchSettings(max_events=10, max_wait_seconds=0.02)
            workers.start(
                contract(canal, function="streams.ordered_effects:act_batch", batch=batch, concurrency=2)
            )
            await canal.publish(
                *(of_key(f"k{n % 7}", n // 7, "fail-once" if n % 11 == 0 else "return") for n in range(140))
            )
            figures = await canal.settled(events=140)
            lines = read_lines(workers.effects_path)
    assert (figures.done, figures.dead) == (140, 0)
    assert misordered(lines) == []


async def test_an_idle_worker_hears_of_the_next_event_at_once_and_asks_the_server_for_little(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            worker = workers.start(contract(canal))
            workers.wait(lambda: taken_by(worker) == 2, "both partitions")
            await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW})), 60)
            await canal.publish(*(of_key("held", n, lane=Lane.LOW) for n in range(3)))
            await asyncio.sleep(1.5)
            stats = canal.keys.partition(0).stats
            before = (await canal.command(stats, "INFO", "commandstats"))["cmdstat_evalsha"]["calls"]
            await asyncio.sleep(2)
            after = (await canal.command(stats, "INFO", "commandstats"))["cmdstat_evalsha"]["calls"]
            assert not began(workers)
            published = time.monotonic()
            await canal.publish(of_key("k", 0))

            async def handled() -> list[Line]:
                return began(workers)

            await eventually(handled, "the event")
            seconds = time.monotonic() - published
    # Reads once a second, looks twice, beats; a loop that never waits asks thousands of times.
    assert after - before < 60
    assert seconds < 0.9, "the doorbell rang, not the next look"


async def test_a_batch_job_of_one_key_leaves_the_slots_to_other_keys(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(contract(canal, concurrency=4))
            await canal.publish(*(of_key("hot", n, seconds=0.2) for n in range(20)))
            await canal.publish(*(of_key(f"cold{n}", 0) for n in range(20)))
            workers.wait(lambda: sum(line.key != "hot" for line in began(workers)) == 20, "the cold keys")
            assert sum(line.key == "hot" for line in began(workers)) < 10
            await canal.settled(events=40)


async def test_an_event_that_ends_its_workers_takes_none_of_those_behind_it_along(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            twice = RetryContract(max_attempts=2, initial_seconds=0.05, factor=1, max_seconds=0.05)
            of_branch = contract(canal, function="streams.effects:act", concurrency=1, retry=twice)
            await canal.publish(NewEvent(id="poison", key="p", data={"do": "hold"}))
            await canal.publish(*(NewEvent(key=f"k{n}", data={"do": "return"}) for n in range(40)))
            for attempt in (1, 2):
                worker = workers.start(of_branch)
                workers.wait(lambda n=attempt: len(workers.effects("begin")) == n, f"attempt {attempt}")
                worker.kill()
                await retire(valkey, canal.keys, "a", worker.name)
            workers.start(of_branch)
            figures = await canal.settled(events=41)
        (letter,) = await read_dead_letters(valkey, canal.keys, "a")
    assert (figures.done, figures.dead, letter.id) == (40, 1, "poison")


async def test_a_broken_connection_brings_nothing_forward_while_there_is_something_to_claim(
    server: Server,
) -> None:
    async with desk(server) as canal:
        await canal.publish(*(of_key("k", n) for n in range(3)))
        of_branch = contract(canal)
        other = await canal.consumer("w9.x", ordering=Ordering.KEY)
        its = PartitionOwner(canal.wires, canal.keys.partition(0), of_branch, other)
        await its.ask(Wish.TAKE)
        await other.read_watched(1)
        await its.ask(Wish.GIVE)

        async def nothing(_: Event) -> None:
            raise AssertionError("no slot runs here")

        worker = Worker(server, of_branch, LoopHandler(nothing), "w1")
        await worker._enlist()
        mine = worker._flow.ordered._owners[0]
        await mine.ask(Wish.TAKE)
        await mine.consumer.read_watched(2)
        await mine.ask(Wish.GIVE)
        # The first is held by the other, the second and third by this one, which takes the partition again.
        await worker._flow.ordered.ownership.look()
        assert worker._flow.ordered.is_mine(0)
        await worker._recover(worker._readers[0])
        assert worker._intake.held == 0
        await worker._flow.ordered.claim([0])
        assert [each.event.id for each in worker._intake.known[0].values()] == ["k.0", "k.1", "k.2"]
        worker._wires.close()
        await asyncio.sleep(0.01)
