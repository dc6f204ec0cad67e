"""Counts log lines by minute, service and level, and keeps the last value of each gauge.

What a handler returns is applied in the step that settles its event: once, however many workers died over it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate import PermanentError, count, put

if TYPE_CHECKING:
    from headgate import Effect, Event

KEPT_MINUTES = 6 * 60  # how old a line may be to be counted in its minute; forget.py removes what is older
AHEAD_MINUTES = 5  # how far a producer's clock may be ahead


async def tally(events: list[Event]) -> list[list[Effect]]:
    """Counts each line twice: in the minute it was written, and in the total that only grows."""
    now = int(time.time() // 60)
    counted: list[list[Effect]] = []
    for event in events:
        line = event.data
        place = f"{line['service']} {line['level']}"
        counted.append([count(f"total {place}"), count(f"{minute(line['time'], now)} {place}")])
    return counted


async def latest(event: Event) -> Effect:
    """Keeps the last value of the gauge that the event's key names, as in web-7/queue_length; null ends it."""
    if event.key is None or "/" not in event.key:
        raise PermanentError(f"key: {event.key!r} names no gauge; publish with SOURCE/NAME as the key")
    return put(event.key, None if event.data["value"] is None else event.data)


def minute(time_ms: int, now: int) -> str:
    """The minute of a time, as 2026-11-21T22:40Z; `astray` of one that nobody looks at or that is yet to come.

    So there are never more counters than minutes are kept, whatever times the producers write.
    """
    number = time_ms // 60_000
    if not now - KEPT_MINUTES <= number <= now + AHEAD_MINUTES:
        return "astray"
    return datetime.fromtimestamp(number * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")
