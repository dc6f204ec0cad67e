"""The handlers the benchmark's workers run; a worker imports them from this folder."""

from __future__ import annotations

import atexit
import os
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from headgate import PermanentError, count

if TYPE_CHECKING:
    from headgate.effects import Count
    from headgate.event import Event

_arrivals = array("q")


async def nothing(event: Event) -> None:
    """Does nothing: what is measured is everything around it."""


async def result(event: Event) -> dict[str, str]:
    """A small result for a join."""
    return {"handled": event.id}


async def counted(event: Event) -> Count:  # noqa: ARG001
    """One effect an event."""
    return count("handled")


async def in_order(event: Event) -> None:
    """Does nothing; a branch without order would be another measurement."""
    if not event.fencing_token:
        raise PermanentError("no fencing token: the branch is not ordered")


async def batch(events: list[Event]) -> None:
    """Does nothing; events one by one would be another measurement."""
    if not isinstance(events, list):
        raise PermanentError(f"a batch was to come, and not a {type(events).__name__}")


async def arrival(event: Event) -> None:
    """Notes when the event was due and how long it took to get here, in ns of this machine's clock."""
    due = int(event.data["due"])
    _arrivals.append(due)
    _arrivals.append(time.time_ns() - due)


def _write_arrivals() -> None:
    path = os.environ.get("HEADGATE_BENCH_ARRIVALS")
    if path and _arrivals:
        Path(path).write_bytes(_arrivals.tobytes())


atexit.register(_write_arrivals)
