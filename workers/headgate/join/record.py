"""Final records: what a join emits once all its branches are in, or its time is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

_PAGE = 1000


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One final record. Complete when all branches gave results; else `failed` and `missing` say why."""

    id: str
    partition: int
    entry: str
    complete: bool
    results: dict[str, Any]
    failed: dict[str, str]
    missing: tuple[str, ...]
    published_ms: int
    joined_ms: int


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
            records += [_record(entry.decode(), fields, partition.number) for entry, fields in page]
            taken += len(page)
            if len(page) < count:
                break
            start = page[-1][0].decode()
    return records


def _record(entry: str, fields: Mapping[bytes, bytes], partition: int) -> Record:
    plain: dict[str, bytes] = {}
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    missing: list[str] = []
    for name, value in fields.items():
        kind, colon, branch = name.decode().partition(":")
        if not colon:
            plain[kind] = value
        elif kind == "result":
            results[branch] = msgspec.json.decode(value)
        elif kind == "failed":
            failed[branch] = value.decode(errors="replace")
        else:
            missing.append(branch)
    return Record(
        id=plain["id"].decode(),
        partition=partition,
        entry=entry,
        complete=plain["complete"] == b"1",
        results=results,
        failed=failed,
        missing=tuple(missing),
        published_ms=int(plain.get("published", 0)),
        joined_ms=int(plain["joined"]),
    )
