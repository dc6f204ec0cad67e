"""A handler in a process of its own: whatever goes between the two, the worker's loop turns on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headgate.errors import PermanentError
from headgate.event import Event
from headgate.handlers.base import HandlerCrashedError
from headgate.handlers.process import Child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LARGE = 5_000_000  # bytes: many times what a socket takes at once
TURN_SECONDS = (
    1.2  # that the loop may take for a turn on a busy machine; the import alone takes twice as long
)


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children find their handlers."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])


@contextlib.asynccontextmanager
async def child(function: str) -> AsyncIterator[Child]:
    started = await asyncio.to_thread(Child, f"process_handlers:{function}")
    try:
        yield started
    finally:
        started.kill()


@contextlib.asynccontextmanager
async def turning() -> AsyncIterator[None]:
    """Fails when the loop stood still meanwhile."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.02)
    try:
        yield
        await asyncio.sleep(0.02)
    finally:
        watching.cancel()
    assert longest < TURN_SECONDS, f"the loop stood still for {longest:.2f} s"


def event(data: Any) -> Event:
    return Event(id="i", body=msgspec.json.encode(data))


async def test_a_large_event_for_a_child_that_still_imports_does_not_stop_the_loop() -> None:
    async with child("size") as one, turning():
        assert await one.call(event("x" * LARGE)) == LARGE + 2
        assert await one.call(event("x")) == 3


async def test_a_large_result_comes_whole() -> None:
    async with child("echo") as one, turning():
        for length in (0, 1, 65_536, LARGE):
            assert await one.call(event("x" * length)) == "x" * length


async def test_a_child_that_is_stopped_while_it_is_sent_to_stops_nothing_and_can_be_cancelled() -> None:
    async with child("size") as one:
        await one.call(event(1))
        os.kill(one.pid, signal.SIGSTOP)
        async with turning():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.call(event("x" * LARGE)), 1)
        assert not one.alive


async def test_a_child_that_dies_while_it_is_sent_to_says_how() -> None:
    async with child("size") as one, turning():
        await one.call(event(1))
        os.kill(one.pid, signal.SIGSTOP)
        calling = asyncio.create_task(one.call(event("x" * LARGE)))
        await asyncio.sleep(0.1)
        os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(HandlerCrashedError, match="by signal 9"):
            await calling


async def test_a_child_that_exits_says_how() -> None:
    async with child("die") as one, turning():
        with pytest.raises(HandlerCrashedError, match="with exit code 7"):
            await one.call(event(1))


async def test_cancelling_ends_the_process_and_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    for _ in range(3):
        async with child("slow") as one, turning():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.call(event(1)), 0.2)
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # noqa: PTH208 - the fork server's own


async def test_a_result_that_cannot_be_passed_on_is_told_and_the_child_goes_on() -> None:
    async with child("unspeakable") as one:
        for _ in range(2):
            with pytest.raises(PermanentError, match="cannot be passed between processes"):
                await one.call(event(1))


async def test_one_process_serves_event_after_event() -> None:
    async with child("pid") as one:
        assert len({await one.call(event(1)) for _ in range(50)}) == 1
