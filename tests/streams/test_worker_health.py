"""A worker's health and readiness tell the truth, whatever goes wrong."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import BranchContract, HttpContract
from headgate.streams import Server, close_branch, ensure_groups, open_branch, remove_pipeline
from headgate.worker.health import Health
from streams.desk import Desk, desk
from streams.servers import free_port
from streams.workers import WorkerProcess, wait_until, workers_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def canal(valkey_url: str) -> AsyncIterator[Desk]:
    server = Server.connect(valkey_url)
    async with desk(server) as made:
        yield made
    await server.aclose()


def ask(worker: WorkerProcess, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}", timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def becomes(worker: WorkerProcess, path: str, status: int, word: str, seconds: float = 20) -> None:
    """Waits for an answer; what it says is as much a promise as its status."""

    def is_so() -> bool:
        code, said = ask(worker, path)
        return code == status and word in said

    await asyncio.to_thread(
        wait_until,
        is_so,
        f"{path} {status} {word!r}",
        lambda: str(ask(worker, path)) + worker.log()[-1000:],
        seconds,
    )


async def test_a_handler_that_blocks_the_loop_makes_the_worker_unhealthy_until_it_is_through(
    canal: Desk, tmp_path: Path
) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(claim_after_seconds=1))
        await becomes(worker, "/healthz", 200, "the loop turned")
        await canal.publish({"do": "block", "seconds": 7})
        await becomes(worker, "/healthz", 503, "the loop has stood still for")
        await becomes(worker, "/healthz", 200, "the loop turned")
        assert worker.exit_code is None


async def test_one_without_a_branch_is_alive_and_not_ready(canal: Desk, tmp_path: Path) -> None:
    await remove_pipeline(canal.server, canal.keys)
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(), wait_for="read.waiting")
        assert ask(worker, "/readyz") == (503, "no lease: the server is not reached, or has no such branch\n")
        assert ask(worker, "/healthz")[0] == 200
        await ensure_groups(canal.server, canal.keys, ["a"])
        await becomes(worker, "/readyz", 200, "taking events")
        await remove_pipeline(canal.server, canal.keys)
        await becomes(worker, "/readyz", 503, "no lease")


async def test_one_of_a_closed_branch_is_not_ready(canal: Desk, tmp_path: Path) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        contract = canal.contract()
        worker = workers.start(contract)
        await becomes(worker, "/readyz", 200, "taking events")
        await close_branch(canal.server, canal.keys, "a", "410 Gone", contract.function)
        await becomes(worker, "/readyz", 503, "the branch is closed")
        assert ask(worker, "/healthz")[0] == 200
        await open_branch(canal.server, canal.keys, "a")
        await becomes(worker, "/readyz", 200, "taking events")


async def test_one_whose_target_does_not_listen_is_not_ready(canal: Desk, tmp_path: Path) -> None:
    port = free_port()
    http = HttpContract(url=f"http://127.0.0.1:{port}/", await_listening=True)
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(function="", http=http), wait_for="worker.serving")
        await becomes(worker, "/readyz", 503, "its target does not listen yet")
        assert ask(worker, "/healthz")[0] == 200
        target = await asyncio.start_server(_refuse, "127.0.0.1", port)
        async with target:
            await becomes(worker, "/readyz", 200, "taking events")
            await canal.publish(*({} for _ in range(6)))
            await becomes(worker, "/readyz", 503, "the circuit breaker is open")


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_one_that_drains_is_alive_and_not_ready(canal: Desk, tmp_path: Path) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract())
        await canal.publish({"do": "hold"})
        await asyncio.to_thread(workers.wait, lambda: workers.effects("begin"), "the handler")
        worker.terminate()
        await becomes(worker, "/readyz", 503, "draining")
        assert ask(worker, "/healthz")[0] == 200
        workers.release()
        assert worker.wait_ended() == 0


class Silent:
    """A worker that had its last answer long ago, watched."""

    def __init__(self, url: str, silent_for: float) -> None:
        worker: Any = SimpleNamespace(answered_at=time.monotonic() - silent_for, unready="")
        contract = BranchContract(namespace="test", pipeline="canal", branch="a", function="m:f")
        self.health = Health(worker, contract, url, silent_seconds=1)

    async def alive_for(self, seconds: float) -> tuple[bool, str]:
        """What it says as soon as it is unhealthy, or after a time."""
        deadline = time.monotonic() + seconds
        while (told := self.health.alive())[0] and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread says so
            await asyncio.sleep(0.05)
        self.health.end()
        return told


async def test_one_that_alone_gets_no_answer_is_unhealthy(server_url: str) -> None:
    good, why = await Silent(server_url, silent_for=50).alive_for(20)
    assert not good
    assert "no heartbeat was answered for 5" in why
    assert "though the server answers others" in why
    assert (await Silent(server_url, silent_for=0).alive_for(0.9))[0]


async def test_a_server_that_answers_nobody_is_no_reason_to_end_a_worker() -> None:
    assert (await Silent(f"redis://127.0.0.1:{free_port()}", silent_for=50).alive_for(3))[0]
