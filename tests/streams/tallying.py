"""A handler that keeps a tally of each key in a value: it reads what the event before left, and puts the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate import put, value

if TYPE_CHECKING:
    from headgate import Event
    from headgate.effects import Put


async def tally(event: Event) -> Put:
    """Appends the event's number to the list under its key, after a moment in which others could."""
    before = await value(event.key or "")
    await asyncio.sleep(0.005)
    return put(event.key or "", [*(before or []), event.data])
