"""Dead letters: events a branch gave up on, with the error and the attempts made; and joins whose time was up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import DATA, ID, KEY, ROOT, TIME, TRACE, TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

JOIN = "@join"
"""Stands for a branch's name where the dead letters of the pipeline's join are meant."""

_PAGE = 200


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters: those that meet all that is given.

    `error` is part of the error's text; `type` and `id` are the event's. They became dead letters at `from_ms` or
    later and before `until_ms`, in ms since 1970 by the server's clock.
    """

    error: str = ""
    type: str = ""
    id: str = ""
    from_ms: int | None = None
    until_ms: int | None = None

    def takes(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a dead letter's fields meet it; its time is left to `range`."""
        return (
            self.error.encode() in fields.get(b"error", b"")
            and (not self.type or fields.get(TYPE, b"event") == self.type.encode())
            and (not self.id or fields.get(ID, b"") == self.id.encode())
        )

    @property
    def range(self) -> tuple[str, str]:
        """First and last id as XRANGE takes them."""
        return (
            "-" if self.from_ms is None else f"{max(0, self.from_ms)}-0",
            "+" if self.until_ms is None else f"({max(0, self.until_ms)}-0",
        )


class Letter(msgspec.Struct, frozen=True):
    """A dead letter as it is stored."""

    partition: int
    entry: str
    fields: dict[bytes, bytes]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One dead letter. `data` is decoded JSON, or the text itself where it is none.

    `dead_ms` is when it became one by the server's clock, `published_ms` when the event was published; `worker` is the
    consumer that had it last.
    """

    id: str
    error: str
    attempts: int
    type: str
    key: str | None
    data: Any
    published_ms: int
    dead_ms: int
    worker: str
    traceparent: str | None
    root: str | None
    entry: str
    partition: int


async def find_letters(
    server: Server,
    keys: PipelineKeys,
    branch: str,
    wanted: LetterFilter = LetterFilter(),  # noqa: B008 - frozen
    limit: int | None = None,
) -> AsyncIterator[Letter]:
    """The dead letters of a branch (or JOIN) that a filter takes, partition by partition, oldest first.

    `limit` bounds those of a partition. What comes in meanwhile is left out, so that giving them again while they fail
    again has an end. Raises ServerUnavailableError.
    """
    ends: list[bytes | None] = []
    for partition in keys.all:
        name = partition.dead(branch)
        newest = await server.execute(name, "XREVRANGE", name, "+", "-", "COUNT", 1)
        ends.append(newest[0][0] if newest else None)
    first, last = wanted.range
    for partition, newest in zip(keys.all, ends, strict=True):
        if newest is None:
            continue
        name, start, left = partition.dead(branch), first, limit
        while left != 0:
            page = await server.execute(name, "XRANGE", name, start, last, "COUNT", _PAGE)
            found = [each for each in page if _order(each[0]) <= _order(newest) and wanted.takes(each[1])]
            for entry, fields in found[:left]:
                yield Letter(partition.number, entry.decode(), fields)
            if len(page) < _PAGE:
                break
            left = None if left is None else left - len(found[:left])
            start = f"({page[-1][0].decode()}"


async def read_dead_letters(
    server: Server,
    keys: PipelineKeys,
    branch: str,
    limit: int = 100,
    wanted: LetterFilter = LetterFilter(),  # noqa: B008 - frozen
) -> list[DeadLetter]:
    """The oldest `limit` dead letters of a branch on each partition that a filter takes, oldest first."""
    return [_decoded(letter) async for letter in find_letters(server, keys, branch, wanted, limit)]


def _decoded(letter: Letter) -> DeadLetter:
    fields = letter.fields
    body = fields.get(DATA, b"")
    try:
        data: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        data = body.decode(errors="replace")
    dead_ms = int(letter.entry.partition("-")[0])
    return DeadLetter(
        id=_text(fields, ID) or "",
        error=_text(fields, b"error") or "",
        attempts=int(fields.get(b"attempts", 0)),
        type=_text(fields, TYPE) or "event",
        key=_text(fields, KEY),
        data=data,
        published_ms=int(fields.get(TIME, dead_ms)),
        dead_ms=dead_ms,
        worker=_text(fields, b"worker") or "",
        traceparent=_text(fields, TRACE),
        root=_text(fields, ROOT),
        entry=letter.entry,
        partition=letter.partition,
    )


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode(errors="replace")


def _order(entry: bytes) -> tuple[int, int]:
    ms, _, sequence = entry.partition(b"-")
    return int(ms), int(sequence)
