"""Handlers that do as their event says and write down what they did, for tests of real workers.

An event's data is {"do": ..., ...}. Each call writes a line when it begins and one when it is through, into the file
of HEADGATE_EFFECTS, so that a test can count what really happened, whatever happened to the worker.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate import PermanentError

if TYPE_CHECKING:
    from headgate import Event


def note(what: str, event: Event) -> None:
    """One line, whole, also when many processes write."""
    line = f"{what} {event.id} {event.attempt} {os.getpid()} {event.lane.value}\n"
    descriptor = os.open(os.environ["HEADGATE_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def released() -> bool:
    """Whether the test lets held handlers go."""
    return Path(os.environ["HEADGATE_EFFECTS"] + ".release").exists()


async def act(event: Event) -> Any:
    """The async form."""
    note("begin", event)
    wish = event.data
    if wish["do"] == "hold":
        while not released():  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(0.01)
    elif wish["do"] == "block":
        time.sleep(wish["seconds"])  # noqa: ASYNC251 - what no async handler should do
    elif wish["do"] == "hang":
        await asyncio.Event().wait()
    elif wish["do"] == "hang-once" and event.attempt == 1:
        try:
            await asyncio.Event().wait()
        finally:
            note("cancelled", event)
    elif wish["do"] == "swallow-cancel":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("swallowed", event)
    elif wish["do"] == "await-cancelled" and event.attempt == 1:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
    result = _either_way(event)
    note("end", event)
    return result


def act_plain(event: Event) -> Any:
    """The plain form, for threads and processes."""
    note("begin", event)
    wish = event.data
    if wish["do"] == "hold":
        while not released():
            time.sleep(0.01)
    elif wish["do"] == "hang" or (wish["do"] == "hang-once" and event.attempt == 1):
        time.sleep(600)
    elif wish["do"] == "exit" and event.attempt == 1:
        os._exit(3)
    elif wish["do"] == "next-of-nothing" and event.attempt == 1:
        next(iter(()))
    result = _either_way(event)
    note("end", event)
    return result


def _either_way(event: Event) -> Any:
    wish = event.data
    if wish["do"] == "fail" or (wish["do"] == "fail-once" and event.attempt == 1):
        raise RuntimeError(f"attempt {event.attempt} failed")
    if wish["do"] == "permanent":
        raise PermanentError("never")
    if wish["do"] == "system-exit" and event.attempt == 1:
        sys.exit(1)
    if wish["do"] == "no-json":
        return object()
    if wish["do"] == "no-pickle":
        return lambda: None
    return wish.get("result")


class AsyncCallable:
    """An object whose call is async."""

    async def __call__(self, event: Event) -> Any:
        note("begin", event)
        note("end", event)
        return event.data.get("result")


callable_object = AsyncCallable()
