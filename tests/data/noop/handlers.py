"""Handlers that do next to nothing, for tests of what is around them."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from headgate import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate import Event


async def fast(event: Event) -> dict[str, Any]:
    """Answers with what it got, or does what the event asks for."""
    if event.data.get("poison"):
        raise PermanentError("data.poison: set: publish an event without it")
    if event.data.get("kill") and event.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": event.data["n"]}


def slow(event: Event) -> int:
    """Takes as long as the event says."""
    time.sleep(event.data.get("seconds", 0.05))
    return int(event.data["n"]) * 2


def events(count: int) -> Iterator[dict[str, Any]]:
    """Numbered events over all lanes."""
    for number in range(count):
        yield {"data": {"n": number}, "lane": ("high", "normal", "low")[number % 3], "type": "number"}


def poisoned(count: int) -> Iterator[dict[str, Any]]:
    """The first event is one that no attempt can handle."""
    for number in range(count):
        yield {"data": {"n": number, "poison": number == 0}, "id": f"n{number}"}


def lasting(count: int) -> Iterator[dict[str, Any]]:
    """Each takes a minute."""
    for number in range(count):
        yield {"data": {"n": number, "seconds": 60}}


def deadly(count: int) -> Iterator[dict[str, Any]]:
    """The first event kills the worker that first handles it."""
    for number in range(count):
        yield {"data": {"n": number, "kill": number == 0}}
