"""Worker processes of this machine: which start, which stop, what is left. The processes are real, only idle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headgate.streams import Server
from headgate_operator.substrates import local
from headgate_operator.substrates.local import LocalSubstrate
from unit.pipelines import load

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PIPELINE = load(Path(__file__).parents[1] / "data" / "noop" / "pipeline.yaml").pipeline
IDLE = (sys.executable, "-c", "import signal; signal.pause()")
FAILING = (sys.executable, "-c", "import sys; print('no luck'); sys.exit(1)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
)


@pytest.fixture
def with_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[tuple[str, ...], Callable[[LocalSubstrate], Coroutine[None, None, None]]], None]:
    def run(
        command: tuple[str, ...], script: Callable[[LocalSubstrate], Coroutine[None, None, None]]
    ) -> None:
        monkeypatch.setattr(local, "COMMAND", command)

        async def main() -> None:
            # Nothing listens there: a lease that cannot be ended is logged and runs out by itself.
            substrate = LocalSubstrate(Server.connect("redis://127.0.0.1:1"), tmp_path, tmp_path / "logs")
            await substrate.apply(PIPELINE)
            try:
                await script(substrate)
            finally:
                substrate.kill()
                await substrate.remove(PIPELINE)

        asyncio.run(main())

    return run


def running(substrate: LocalSubstrate, branch: str = "slow") -> dict[str, int]:
    return {
        slot.name: slot.process.pid
        for slot in substrate._slots
        if slot.process is not None and slot.contract.branch == branch
    }


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - processes ring no bell
            await asyncio.sleep(0.02)


def test_scale_in_takes_the_idle_first(with_workers):
    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 3, {})
        await until(lambda: len(running(substrate)) == 3)
        await substrate.scale(PIPELINE, "slow", 1, {"local-slow-0": 1, "local-slow-1": 2})
        await until(lambda: list(running(substrate)) == ["local-slow-1"])

    with_workers(IDLE, script)


def test_asking_again_for_what_is_there_starts_nothing(with_workers):
    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 2, {})
        await until(lambda: len(running(substrate)) == 2)
        before = running(substrate)
        await substrate.scale(PIPELINE, "slow", 2, {})
        assert await substrate.apply(PIPELINE) == 0
        await asyncio.sleep(0.1)
        assert running(substrate) == before

    with_workers(IDLE, script)


def test_a_worker_that_ends_by_itself_is_started_again_and_counted(with_workers):
    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 1, {})
        await until(lambda: any(failing.failures >= 2 for failing in substrate.failing()))
        (failing,) = substrate.failing()
        assert (failing.branch, failing.last_words, failing.hopeless) == ("slow", "no luck", False)
        assert substrate._restarts[PIPELINE.keys, "slow"] >= 2

    with_workers(FAILING, script)


def test_a_worker_that_somebody_kills_has_not_failed_to_start(with_workers):
    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 1, {})
        for kills in (1, 2, 3):
            await until(lambda: len(running(substrate)) == 1)
            (process,) = running(substrate).values()
            os.killpg(process, signal.SIGKILL)
            await until(lambda kills=kills: substrate._restarts[PIPELINE.keys, "slow"] == kills)
        assert [failing.failures for failing in substrate.failing()] == [1]

    with_workers(IDLE, script)


def test_the_lease_of_a_worker_that_dies_while_it_drains_is_ended(with_workers, monkeypatch):
    ended = []

    async def retire(_server, _keys, _branch, name):
        ended.append(name)

    monkeypatch.setattr(local, "retire", retire)

    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 1, {})
        await until(lambda: len(running(substrate)) == 1)
        (name,) = running(substrate)
        await substrate.scale(PIPELINE, "slow", 0, {})  # it knows nothing of draining: SIGTERM ends it
        await until(lambda: not substrate._slots)
        assert ended == [name]

    with_workers(IDLE, script)


def test_a_changed_branch_gets_new_workers_and_the_others_keep_theirs(with_workers):
    slow = PIPELINE.branch("slow")
    changed = replace(
        PIPELINE,
        spec=PIPELINE.spec.model_copy(
            update={"branches": (PIPELINE.branch("fast"), slow.model_copy(update={"concurrency": 5}))}
        ),
    )

    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 1, {})
        await substrate.scale(PIPELINE, "fast", 1, {})
        await until(lambda: len(running(substrate)) == len(running(substrate, "fast")) == 1)
        kept, replaced = running(substrate, "fast"), running(substrate)
        assert await substrate.apply(changed) == 1
        await until(lambda: len(running(substrate)) == 1 and running(substrate) != replaced)
        assert running(substrate, "fast") == kept

    with_workers(IDLE, script)


def test_a_worker_that_does_not_drain_is_killed_after_its_time(with_workers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "KILL_AFTER_SECONDS", -29.5)  # half a second in all

    async def script(substrate: LocalSubstrate) -> None:
        await substrate.scale(PIPELINE, "slow", 1, {})
        await until(
            lambda: any("deaf" in slot.log.read_text() for slot in substrate._slots if slot.log.exists())
        )
        started = time.monotonic()
        await substrate.remove(PIPELINE)
        assert 0.4 < time.monotonic() - started < 10

    with_workers(STUBBORN, script)
