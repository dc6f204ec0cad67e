"""What a pipeline is on the server: its streams and consumer groups, made and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.streams.script import ENSURE, RETIRE
from headgate.streams.server import Call, Server
from headgate.streams.settings import BranchStart, SourceSettings
from headgate.streams.spans import count_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams.keys import PartitionKeys, PipelineKeys

# Keys of one slot: long enough to be cheap, short enough to leave the server to others.
_UNLINKED_AT_ONCE = 500


class Ensured(msgspec.Struct, frozen=True):
    """What had to be changed for a pipeline's groups to be there.

    `changes` counts groups created and destroyed, `made` names the branches that got groups, `healed` those of them
    that had been there before: their groups were lost.
    """

    changes: int = 0
    made: tuple[str, ...] = ()
    healed: tuple[str, ...] = ()


async def ensure_groups(
    server: Server,
    keys: PipelineKeys,
    branches: Sequence[BranchStart | str],
    settings: SourceSettings = SourceSettings(),  # noqa: B008 - frozen
) -> Ensured:
    """Makes the consumer groups of every partition what `branches` says; a plain name starts at Now.

    Creates what is missing (a group that had been there before where it had settled everything), removes groups of
    branches no longer named (their dead letters stay until the pipeline goes). Leaves the pipeline's settings for
    publishers (`Publisher.open`) and sweeps. Calling it again changes
    nothing. Raises ValueError when a branch's start is no time, ServerUnavailableError.
    """
    starts = [BranchStart(branch) if isinstance(branch, str) else branch for branch in branches]
    pairs = [part for start in starts for part in (start.name, start.position)]
    args: tuple[str | int, ...] = (keys.partitions, *settings.to_fields(), len(starts), *pairs)
    changes = 0
    made: dict[str, None] = {}
    healed: dict[str, None] = {}
    left: dict[PartitionKeys, list[str | int]] = {partition: [] for partition in keys.all}
    while left:
        calls = [
            Call(
                ENSURE,
                (*partition.lanes, f"{partition.tag}:", partition.settings),
                (*args, *counted),
            )
            for partition, counted in left.items()
        ]
        uncounted: dict[PartitionKeys, list[Any]] = {}
        for partition, reply in zip(left, await server.run_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            changes += reply[0]
            made |= {branch.decode(): None for branch in reply[1]}
            healed |= {branch.decode(): None for branch in reply[2]}
            if reply[3]:
                uncounted[partition] = reply[3]
        left = {partition: await _count(server, partition, places) for partition, places in uncounted.items()}
    return Ensured(changes, tuple(made), tuple(healed))


async def _count(server: Server, partition: PartitionKeys, places: Sequence[Any]) -> list[str | int]:
    """What ensure.lua asks for: entries read up to each place, of those ever added to its lane."""
    asked = [
        (lane, place.decode(), last.decode(), added)
        for lane, place, last, added in zip(*(places[part::4] for part in range(4)), strict=True)
    ]
    spans = [(partition.lanes[lane - 1], place, last) for lane, place, last, _ in asked]
    counts = await count_entries(server, spans)
    counted: list[str | int] = []
    for (lane, place, _, added), count in zip(asked, counts, strict=True):
        counted += (lane, place, added - count)
    return counted


async def remove_pipeline(server: Server, keys: PipelineKeys) -> int:
    """Deletes every key of a pipeline, of partitions it once had too; gives their number."""
    removed = 0
    by_tag: dict[bytes, list[bytes]] = {}

    async def unlink(tag: bytes) -> int:
        found = by_tag.pop(tag)
        return int(await server.execute(found[0].decode(), "UNLINK", *found))

    async for key in server.scan(f"hg:{{{keys.namespace}/{keys.pipeline}:*"):
        tag = key.partition(b"}")[0]
        by_tag.setdefault(tag, []).append(key)
        if len(by_tag[tag]) >= _UNLINKED_AT_ONCE:
            removed += await unlink(tag)
    for tag in list(by_tag):
        removed += await unlink(tag)
    return removed


async def retire(server: Server, keys: PipelineKeys, branch: str, worker: str) -> None:
    """Says that a worker is dead, so that others may claim what it holds at once instead of after its lease."""
    calls = [Call(RETIRE, (partition.beats(branch),), (worker,)) for partition in keys.all]
    for reply in await server.run_all(calls):
        if isinstance(reply, Exception):
            raise reply
