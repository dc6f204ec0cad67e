"""Targets that are gone, ask for a pause, fail again and again, hang or are not up yet: they are left alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from aiohttp import web

from headgate.contract import (
    BreakerContract,
    RetryContract,
)
from headgate.event import NewEvent
from headgate.streams import Server, read_closed
from streams.desk import desk, eventually
from streams.pushing import errors, pushed, pushes, some
from streams.servers import free_port
from streams.targets import Target, serving
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path


async def test_410_closes_the_branch_and_headgate_open_reopens_it_with_nothing_lost(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    target.answers(410, "moved out")
    async with desk(valkey, partitions=2) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(pushed(canal, target.url))
            await canal.publish(*some(40))

            async def gate() -> bool:
                figures = (await canal.measured()).branches["a"]
                return figures.gate == "closed" and figures.pending == 0

            await eventually(gate, "the closed gate, and all handed back")
            closed = await read_closed(valkey, canal.keys, "a")
            assert closed is not None
            assert closed.reason == f'POST {target.url} answered 410: "moved out"'
            assert closed.target == target.url
            before = len(target.requests)
            await canal.publish(NewEvent(id="late", data={}))
            await asyncio.sleep(1.5)
            assert len(target.requests) == before, "a closed branch reads nothing"
            figures = (await canal.measured()).branches["a"]
            assert (figures.backlog, figures.done, figures.dead, figures.retried) == (41, 0, 0, 0)
            target.answers(200)
            target.requests.clear()
            command = [sys.executable, "-m", "headgate_cli.main", "open", "-p", "test/canal", "-b", "a"]
            said = await asyncio.to_thread(
                subprocess.run,
                command,
                env=os.environ | {"HEADGATE_REDIS_URL": valkey.url},
                capture_output=True,
                text=True,
                check=True,
            )
            assert "moved out" in said.stdout
            figures = await canal.settled(events=41)
            assert worker.exit_code is None
    assert (figures.done, figures.dead, figures.gate) == (41, 0, "open")
    assert pushes(target) == {f"e{number}": 1 for number in range(40)} | {"late": 1}
    assert {request.headers["headgate-attempt"] for request, _ in target.requests} == {"1"}, "none counted"


async def test_a_worker_with_another_url_opens_what_was_closed_for_the_one_before(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    target.answers(410)
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(pushed(canal, target.url))
            await canal.publish(*some(10))

            async def is_closed() -> bool:
                return await read_closed(valkey, canal.keys, "a") is not None

            await eventually(is_closed, "the closed branch")
            worker.terminate()
            assert await asyncio.to_thread(worker.wait_ended) == 0
            again = workers.start(pushed(canal, target.url))
            await asyncio.sleep(1.5)
            assert await is_closed(), "the same target is no reason to open"
            again.terminate()
            assert await asyncio.to_thread(again.wait_ended) == 0
            async with serving() as other:
                workers.start(pushed(canal, other.url))
                figures = await canal.settled(events=10)
    assert figures.done == 10
    assert sum(pushes(other).values()) == 10


async def test_a_target_that_asks_for_a_pause_is_left_alone_for_it(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    at: list[float] = []

    async def answer(_: web.BaseRequest) -> web.Response:
        at.append(time.monotonic())
        return web.Response(status=429, headers={"retry-after": "2"}) if len(at) == 1 else web.Response()

    target.answer = answer
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(pushed(canal, target.url, concurrency=1))
            await canal.publish(*some(20))
            figures = await canal.settled(events=20)
    assert (figures.done, figures.retried, figures.dead) == (20, 1, 0)
    assert at[1] - at[0] >= 1.9
    assert at[-1] - at[1] < 1.9
    assert pushes(target)["e0"] == 2


async def test_a_target_that_fails_is_left_alone_and_tried_again_with_one_event(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    at: list[float] = []

    async def answer(_: web.BaseRequest) -> web.Response:
        at.append(time.monotonic())
        return web.Response(status=500 if len(at) <= 4 else 200)

    target.answer = answer
    retry = RetryContract(max_attempts=4, initial_seconds=0.01, factor=1, max_seconds=0.01)
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            breaker = {"breaker": BreakerContract(failures=3, open_seconds=1)}
            workers.start(pushed(canal, target.url, breaker, concurrency=1, retry=retry))
            await canal.publish(*some(30))
            figures = await canal.settled(events=30)
    assert (figures.done, figures.dead, figures.retried) == (30, 0, 4)
    # Three failures open it; the first probe fails, the second closes it, and the rest follows at once.
    assert at[3] - at[2] >= 0.9
    assert at[4] - at[3] >= 0.9
    assert at[-1] - at[4] < 0.9


async def test_a_target_that_hangs_is_given_up_when_time_is_out(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    target.answer = target.hang
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(pushed(canal, target.url, timeout_seconds=0.3, retry=RetryContract(max_attempts=1)))
            await canal.publish(*some(1))
            await canal.settled(events=1)
            await asyncio.wait_for(target.gone.wait(), 5)
        assert await errors(canal) == {"e0": "timed out after 0.3 s"}


async def test_a_container_that_is_not_up_yet_is_waited_for_alive_and_not_ready(
    valkey: Server, tmp_path: Path
) -> None:
    port = free_port()
    async with desk(valkey) as canal:
        contract = pushed(canal, f"http://127.0.0.1:{port}/", {"allow_networks": (), "await_listening": True})
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(contract, wait_for="worker.serving")
            await canal.publish(*some(3))

            def status(path: str) -> int:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}") as answer:
                        return int(answer.status)
                except urllib.error.HTTPError as error:
                    with error:
                        return error.code

            worker.wait_for("target.awaited")
            assert (status("/healthz"), status("/readyz")) == (200, 503)
            assert (await canal.measured()).branches["a"].undelivered == 3
            async with serving(port=port) as target:
                figures = await canal.settled(events=3)
                assert status("/readyz") == 200
            assert (figures.done, figures.retried) == (3, 0)
            assert len(target.requests) == 3
            ending = workers.start(contract, wait_for="worker.serving")
            await asyncio.sleep(0.5)
            ending.terminate()
            assert await asyncio.to_thread(ending.wait_ended) == 0, "what waits can be told to stop"
