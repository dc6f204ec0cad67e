"""The handlers the benchmark's workers run; a worker imports them from this folder."""

from __future__ import annotations

import atexit
import os
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.event import Event

_arrivals = array("q")


async def nothing(event: Event) -> None:
    """Does nothing: what is measured is everything around it."""


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
