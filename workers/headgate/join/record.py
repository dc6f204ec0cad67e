"""Final records: what a join emits once all its branches are in, or its time is up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.streams.outcome import split_netstrings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

_PAGE = 1000
_DIGITS = re.compile(rb"(\d+)")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One final record: complete when the join got the results it needs; else `failed` and `missing` say why not.

    `type` and `key` are those that its event was published with. `results` are by branch. Of an event that was split,
    `parts` has the results of its parts, by branch and by the part's event id, in the order they were split off;
    `failed` names a part as branch/id, and a branch is `missing` while any of its outcomes is.
    """

    id: str
    type: str = "event"
    key: str | None = None
    partition: int
    entry: str
    complete: bool
    results: dict[str, Any]
    failed: dict[str, str]
    missing: tuple[str, ...]
    published_ms: int
    joined_ms: int
    parts: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


async def read_records(
    server: Server, keys: PipelineKeys, after: Mapping[int, str] | None = None, limit: int | None = None
) -> list[Record]:
    """Final records of every partition, in the order they were emitted within each.

    `after` maps a partition to the entry last read, to go on from there; `limit` bounds the records of a partition.
    """
    records: list[Record] = []
    for partition in keys.all:
        start = (after or {}).get(partition.number)
        taken = 0
        while limit is None or taken < limit:
            count = _PAGE if limit is None else min(_PAGE, limit - taken)
            command = ("XRANGE", partition.joined, f"({start}" if start else "-", "+", "COUNT", count)
            page = await server.execute(partition.joined, *command)
            records += [record_of(entry.decode(), fields, partition.number) for entry, fields in page]
            taken += len(page)
            if len(page) < count:
                break
            start = page[-1][0].decode()
    return records


def record_of(entry: str, fields: Mapping[bytes, bytes], partition: int) -> Record:
    """The record of a stream entry's fields (streams/scripts/join.lua); raises KeyError for what is no record."""
    plain: dict[str, bytes] = {}
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    missing: list[str] = []
    parts: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        kind, colon, branch = name.decode().partition(":")
        if not colon:
            plain[kind] = value
        elif kind == "result":
            results[branch] = msgspec.json.decode(value)
        elif kind == "failed":
            failed[branch] = value.decode(errors="replace")
        elif kind == "missing":
            missing.append(branch)
        elif kind == "parts":
            _add_parts(branch, value, parts, failed)
    return Record(
        id=plain["id"].decode(),
        type=plain["type"].decode() if "type" in plain else "event",
        key=plain["key"].decode() if "key" in plain else None,
        partition=partition,
        entry=entry,
        complete=plain["complete"] == b"1",
        results=results,
        failed=failed,
        missing=tuple(missing),
        published_ms=int(plain.get("published", 0)),
        joined_ms=int(plain["joined"]),
        parts=parts,
    )


def _add_parts(branch: str, packed: bytes, parts: dict[str, dict[str, Any]], failed: dict[str, str]) -> None:
    values = split_netstrings(packed)
    for part, outcome in sorted(
        zip(values[::2], values[1::2], strict=True), key=lambda pair: _natural(pair[0])
    ):
        if outcome.startswith(b"+"):
            parts.setdefault(branch, {})[part.decode()] = msgspec.json.decode(outcome[1:])
        else:
            failed[f"{branch}/{part.decode()}"] = outcome[1:].decode(errors="replace")


def _natural(part: bytes) -> list[tuple[int, bytes]]:
    """Part 10 comes after part 9."""
    return [(int(run), b"") if run.isdigit() else (-1, run) for run in _DIGITS.split(part)]
