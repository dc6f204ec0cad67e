"""Entries of a source at times that a test chooses, and what a branch reads of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.event import Lane
from streams.desk import done, take

if TYPE_CHECKING:
    from streams.desk import Desk

EARLY_MS, LATE_MS = 1_700_000_000_000, 1_700_000_100_000


async def publish_at(canal: Desk, ms: int, count: int, lane: Lane = Lane.NORMAL, partition: int = 0) -> None:
    stream = canal.keys.partition(partition).lane(lane)
    for number in range(count):
        await canal.command(stream, "XADD", stream, f"{ms}-{number}", "data", f'"{ms}-{number}"')


async def settle_all(canal: Desk, branch: str, partition: int = 0) -> list[str]:
    consumer = await canal.consumer(f"w{partition}.x", branch, partition)
    settled: list[str] = []
    while deliveries := await take(consumer):
        await consumer.settle([done(delivery) for delivery in deliveries])
        settled += [delivery.event.data for delivery in deliveries]
    return settled
