"""What a pipeline has on a server, found out without changing anything: for a plan of what a pass would do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from headgate.streams.keys import PipelineKeys
from headgate.streams.settings import FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.streams.keys import PartitionKeys
    from headgate.streams.server import Server

_DRAINS = b"18446744073709551615-0"  # as scripts/drain_place.lua has it


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as its server has it: `partitions` is 0 when it has none.

    `fields` are the source's settings as `SourceSettings.to_fields` gives them. `missing` are branches of those asked
    for that lack a group somewhere, `others` those that have groups and were not asked for; both may be paused or
    drain.
    """

    partitions: int
    fields: tuple[str, ...]
    missing: frozenset[str]
    others: frozenset[str]
    paused: frozenset[str]
    draining: frozenset[str]


async def read_provisioned(server: Server, keys: PipelineKeys, branches: Collection[str]) -> Provisioned:
    """Looks at the partitions that `keys` names; raises ServerUnavailableError."""
    settings = keys.partition(0).settings
    partitions, *fields = await server.execute(settings, "HMGET", settings, "partitions", *FIELDS)
    known = int(partitions or 0)
    there = PipelineKeys(keys.namespace, keys.pipeline, min(known, keys.partitions) or 1).all
    found = await asyncio.gather(*(_groups(server, lane) for partition in there for lane in partition.lanes))
    everywhere = set(branches).intersection(*(set(groups) for groups in found))
    somewhere = {name for groups in found for name in groups}
    held = await asyncio.gather(*(_is_paused(server, there[0], name) for name in sorted(somewhere)))
    return Provisioned(
        partitions=known,
        fields=tuple((field or b"").decode() for field in fields),
        missing=frozenset(set(branches) - everywhere),
        others=frozenset(somewhere - set(branches)),
        paused=frozenset(name for name, paused in zip(sorted(somewhere), held, strict=True) if paused),
        draining=frozenset(name for groups in found for name, last in groups.items() if last == _DRAINS),
    )


async def _groups(server: Server, lane: str) -> dict[str, bytes]:
    """The groups of a stream, and the last id that each was given."""
    if not await server.execute(lane, "EXISTS", lane):
        return {}
    groups = await server.execute(lane, "XINFO", "GROUPS", lane)
    return {_member(group, b"name").decode(): _member(group, b"last-delivered-id") for group in groups}


async def _is_paused(server: Server, partition: PartitionKeys, branch: str) -> bool:
    held = partition.held(branch)
    return bool((await server.execute(held, "HMGET", held, "paused"))[0])


def _member(group: list[bytes], name: bytes) -> bytes:
    return group[group.index(name) + 1]
