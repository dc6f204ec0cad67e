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
    if event.data.get("kill") and event.attempt == 1 and event.data["kill"] != str(os.getpid()):
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
