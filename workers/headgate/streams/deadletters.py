"""Dead letters: events a branch gave up on, with the error and the attempts made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import DATA

if TYPE_CHECKING:
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter. `data` is decoded JSON, or the text itself where it is none."""

    id: str
    error: str
    attempts: int
    data: Any
    entry: str
    partition: int


async def read_dead_letters(
    server: Server, keys: PipelineKeys, branch: str, limit: int = 100
) -> list[DeadLetter]:
    """The oldest `limit` dead letters of a branch on each partition, oldest first."""
    letters: list[DeadLetter] = []
    for partition in keys.all:
        name = partition.dead(branch)
        for entry, fields in await server.execute(name, "XRANGE", name, "-", "+", "COUNT", limit):
            body = fields.get(DATA, b"")
            try:
                data: Any = msgspec.json.decode(body)
            except (ValueError, RecursionError):
                data = body.decode(errors="replace")
            letters.append(
                DeadLetter(
                    id=fields.get(b"id", b"").decode(errors="replace"),
                    error=fields.get(b"error", b"").decode(errors="replace"),
                    attempts=int(fields.get(b"attempts", 0)),
                    data=data,
                    entry=entry.decode(),
                    partition=partition.number,
                )
            )
    return letters
