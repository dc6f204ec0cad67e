"""A real worker begins a retry when it is due, by the server's clock, also while it waits for events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.contract import RetryContract
from headgate.event import NewEvent
from streams.desk import Desk, desk, eventually
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.streams import Server

RETRIES = 9
LATE_MS = 100


async def put_off_until(canal: Desk) -> int:
    """When the one retry is due."""
    delayed = canal.keys.partition(0).delayed("a")

    async def due() -> int | None:
        found = await canal.command(delayed, "ZRANGE", delayed, 0, -1, "WITHSCORES")
        flat = [part for pair in found for part in (pair if isinstance(pair, tuple | list) else (pair,))]
        return int(float(flat[1])) if flat else None

    return await eventually(due, "a retry put off")  # type: ignore[no-any-return]


async def given_at(canal: Desk, before: bytes) -> tuple[int, bytes]:
    """When the next entry of the retry stream was made and given to the worker, and its id."""
    stream = canal.keys.partition(0).retry("a")

    async def last() -> bytes | None:
        (group,) = await canal.command(stream, "XINFO", "GROUPS", stream)
        entry: bytes = group[group.index(b"last-delivered-id") + 1]
        return entry if entry != before else None

    entry = await eventually(last, "a retry given")
    return int(entry.split(b"-")[0]), entry


async def test_most_retries_begin_within_a_tenth_of_a_second(server: Server, tmp_path: Path) -> None:
    """An idle machine is late by 3 ms; half of them may be later, so that a busy one fails nobody."""
    retry = RetryContract(max_attempts=2, initial_seconds=0.3, factor=1, max_seconds=0.3)
    late: list[int] = []
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(retry=retry))
            entry = b"0-0"
            for number in range(RETRIES):
                await canal.publish(NewEvent(id=str(number), data={"do": "fail-once"}))
                due_ms = await put_off_until(canal)
                given_ms, entry = await given_at(canal, entry)
                late.append(given_ms - due_ms)
                await canal.settled(events=number + 1)
            assert all(count == 2 for count in workers.count("begin").values())
    assert min(late) >= 0
    assert sorted(late)[RETRIES // 2] <= LATE_MS, late
