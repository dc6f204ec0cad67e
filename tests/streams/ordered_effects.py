"""A handler of an ordered branch that writes down what it does, and under which fencing token.

An event's id is KEY.NUMBER, its data {"do": "return" | "fail-once" | "fail", "seconds": how long it takes}.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from headgate import Event


@dataclass(frozen=True)
class Line:
    """One line that the handler wrote; `what` is begin or end."""

    what: str
    key: str
    number: int
    attempt: int
    partition: int
    token: int


async def act(event: Event) -> None:
    """Begins, takes its time, ends or fails."""
    write("begin", event)
    await asyncio.sleep(event.data.get("seconds", 0))
    if event.data["do"] == "fail" or (event.data["do"] == "fail-once" and event.attempt == 1):
        raise RuntimeError(f"attempt {event.attempt} failed")
    write("end", event)


async def act_batch(events: list[Event]) -> list[RuntimeError | None]:
    """The same for a batch: each event begins, then each ends or fails by itself."""
    for event in events:
        write("begin", event)
    outcomes: list[RuntimeError | None] = []
    for event in events:
        failed = event.data["do"] == "fail-once" and event.attempt == 1
        outcomes.append(RuntimeError("failed") if failed else None)
        if not failed:
            write("end", event)
    return outcomes


def write(what: str, event: Event) -> None:
    """One line, whole, also when many processes write."""
    line = f"{what} {event.id} {event.attempt} {event.partition} {event.fencing_token}\n"
    descriptor = os.open(os.environ["HEADGATE_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[Line]:
    """What handlers wrote so far."""
    if not path.exists():
        return []
    lines = []
    for row in path.read_text().splitlines():
        what, event, attempt, partition, token = row.split()
        key, number = event.split(".")
        lines.append(Line(what, key, int(number), int(attempt), int(partition), int(token)))
    return lines


def accepted(lines: list[Line]) -> list[Line]:
    """What a store that refuses older fencing tokens would have taken.

    A worker may freeze between its last look at its lease and the first step of a handler, and take that step when it
    thaws, long after another has its partition: nobody but the store can tell then.
    """
    newest: dict[int, int] = {}
    taken = []
    for line in lines:
        if line.token >= newest.get(line.partition, 1):
            newest[line.partition] = line.token
            taken.append(line)
    return taken


def misordered(lines: list[Line]) -> list[str]:
    """What is wrong with the order: an event begun before the one ahead of it was through, or again after the next."""
    wrong: list[str] = []
    last: dict[str, int] = {}
    through: dict[str, int] = {}
    for line in lines:
        if line.what == "end":
            through[line.key] = max(through.get(line.key, -1), line.number)
            continue
        before = last.get(line.key, -1)
        if line.number < before:
            wrong.append(f"{line.key}.{line.number} was begun again after {before}")
        elif line.number > before + 1:
            wrong.append(f"{line.key}.{line.number} was begun after {before}")
        elif line.number > before and through.get(line.key, -1) < before:
            wrong.append(f"{line.key}.{line.number} was begun before {before} was through")
        last[line.key] = max(before, line.number)
    return wrong
