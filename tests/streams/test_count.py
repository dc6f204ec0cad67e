"""count.lua: entries between two ids, counted a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.event import Lane
from headgate.streams.spans import count_entries
from streams.desk import desk
from streams.sources import EARLY_MS, LATE_MS, publish_at

if TYPE_CHECKING:
    from headgate.streams import Server


async def test_entries_are_counted_between_two_ids_over_any_number_of_pages(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 4100)
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        spans = [
            (lane, "0-0", f"{LATE_MS}-0"),
            (lane, f"{EARLY_MS}-99", f"{EARLY_MS}-4099"),
            (lane, f"{EARLY_MS}-0", f"{EARLY_MS}-1"),
            (canal.keys.partition(0).lane(Lane.LOW), "0-0", f"{LATE_MS}-0"),
        ]
        assert await count_entries(server, spans) == [4100, 4000, 1, 0]
