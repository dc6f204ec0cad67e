"""A real worker that is told to stop."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import RetryContract
from headgate.event import Lane, NewEvent
from headgate.handlers.python import LoopHandler
from headgate.streams import Server
from headgate.streams.wire import Wire
from headgate.worker.worker import Worker
from streams.desk import desk, eventually
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.event import Event


@pytest.fixture
async def valkey(valkey_url: str):
    server = Server.connect(valkey_url)
    yield server
    await server.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_finishes_what_it_handles_reads_no_more_and_ends_with_0(
    server: Server, tmp_path: Path, number: int
) -> None:
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            worker = workers.start(canal.contract(concurrency=2))
            await canal.publish(*({"do": "hold"} for _ in range(2)))
            workers.wait(lambda: len(workers.effects("begin")) == 2, "two handlers")
            worker.signal(number)
            worker.wait_for("worker.draining")
            await canal.publish({"do": "return"})
            workers.release()
            assert worker.wait_ended() == 0
            figures = (await canal.measured()).branches["a"]
            assert (figures.done, figures.pending, figures.undelivered) == (2, 0, 1)


async def test_what_it_has_not_begun_is_handed_back_and_is_nobodys_failed_attempt(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            # An hour: only what is handed back can be claimed in this test.
            contract = canal.contract(
                concurrency=1, claim_after_seconds=3600, retry=RetryContract(max_attempts=1)
            )
            worker = workers.start(contract)
            # Fast ones first: now it reads ahead of its one slot.
            await canal.publish(*({"do": "return"} for _ in range(300)))
            await canal.settled(events=300)
            await canal.publish(*(NewEvent(id=f"held{n}", data={"do": "hold"}) for n in range(40)))

            async def holds_more_than_it_handles() -> bool:
                return (await canal.measured()).branches["a"].pending > 1

            await eventually(holds_more_than_it_handles, "events read ahead")
            worker.terminate()
            worker.wait_for("worker.draining")
            workers.release()
            assert worker.wait_ended() == 0
            left = (await canal.measured()).branches["a"]
            assert left.backlog == 39
            assert left.lanes[Lane.NORMAL].undelivered < 39
            heir = canal.contract(concurrency=1, claim_after_seconds=0.5, retry=RetryContract(max_attempts=1))
            workers.start(heir)
            figures = await canal.settled(events=340)
            held = [effect for effect in workers.effects("begin") if effect.event.startswith("held")]
    assert (figures.done, figures.dead) == (340, 0)
    assert sorted(effect.event for effect in held) == sorted(f"held{n}" for n in range(40))
    assert {effect.attempt for effect in held} == {1}


async def test_what_outlasts_the_grace_period_is_handed_back_too(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract(drain_seconds=0.3, claim_after_seconds=3600))
            await canal.publish({"do": "hold"})
            workers.wait(lambda: workers.effects("begin"), "the handler")
            worker.terminate()
            assert worker.wait_ended() == 0
            assert (await canal.measured()).branches["a"].pending == 1
            workers.release()
            workers.start(canal.contract(claim_after_seconds=0.5))
            assert (await canal.settled(events=1)).done == 1


async def test_a_second_signal_ends_it_at_once(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract())
            await canal.publish({"do": "hold"})
            workers.wait(lambda: workers.effects("begin"), "the handler")
            worker.terminate()
            worker.wait_for("worker.draining")
            worker.terminate()
            assert worker.wait_ended() == -signal.SIGTERM


async def test_a_worker_that_waits_for_its_groups_can_be_stopped_too(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract("not-there"), wait_for="read.waiting")
            worker.terminate()
            assert worker.wait_ended() == 0


async def test_no_beat_between_two_releases_keeps_the_other_partitions_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(server, partitions=3) as canal:

        async def nothing(_: Event) -> None:
            raise AssertionError("there is no event")

        worker = Worker(server, canal.contract(claim_after_seconds=3600), LoopHandler(nothing), "w1")
        call = Wire.call

        async def call_and_beat(wire: Wire, *command: str | bytes | int) -> Any:
            reply = await call(wire, *command)
            if command[0] == "ZREM":
                worker._heart.claim_more.set()  # the next beat, as if its time had come
                await asyncio.sleep(0.1)
            return reply

        monkeypatch.setattr(Wire, "call", call_and_beat)
        running = asyncio.create_task(worker.run())

        async def enlisted() -> bool:
            return bool(worker._lease.name) and all(each.lease for each in worker._consumers)

        await eventually(enlisted, "a lease on every partition")
        worker.drain()
        await running
        beats = [each.beats("a") for each in canal.keys.all]
        assert [await canal.command(name, "ZCARD", name) for name in beats] == [0, 0, 0]
        assert worker.metrics.leases_lost == 0
