"""What a pipeline is on the server: its streams and consumer groups, made and removed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.streams.errors import FewerPartitionsError
from headgate.streams.script import ENSURE, RETIRE
from headgate.streams.server import Call, Server
from headgate.streams.settings import BranchStart, Removal, SourceSettings
from headgate.streams.spans import count_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams.keys import PartitionKeys, PipelineKeys

# Keys of one slot: long enough to be cheap, short enough to leave the server to others.
_UNLINKED_AT_ONCE = 500
_FEWER = -1  # ensure.lua's word for a caller that knows of fewer partitions than there are


class Ensured(msgspec.Struct, frozen=True):
    """What had to be changed for a pipeline's groups to be there.

    `changes` counts groups created and destroyed, and branches that were paused, resumed, or began or ended to drain.
    `made` names the branches that got groups, `healed` those of them that had been there before: their groups were
    lost. `draining` says of each branch that drains how many events it has left (None: unknown), `drained` names those
    that had none left and are gone. `growing` names those that wait on new partitions until they are through with what
    the old ones had (`release_grown`).
    """

    changes: int = 0
    made: tuple[str, ...] = ()
    healed: tuple[str, ...] = ()
    draining: dict[str, int | None] = {}
    drained: tuple[str, ...] = ()
    growing: frozenset[str] = frozenset()


class _Tally:
    """What the calls to all partitions gave, together."""

    def __init__(self) -> None:
        self.changes = 0
        self.made: dict[str, None] = {}
        self.healed: dict[str, None] = {}
        self.draining: dict[str, int | None] = {}
        self.growing: set[str] = set()

    def add(self, reply: Sequence[Any]) -> None:
        changes, made, healed, _, draining, growing = reply
        self.changes += changes
        self.made |= {branch.decode(): None for branch in made}
        self.healed |= {branch.decode(): None for branch in healed}
        for name, left in zip(draining[::2], draining[1::2], strict=True):
            branch = name.decode()
            known = self.draining.get(branch, 0)
            self.draining[branch] = None if known is None or left < 0 else known + left
        self.growing |= {branch.decode() for branch in growing}


async def ensure_groups(
    server: Server,
    keys: PipelineKeys,
    branches: Sequence[BranchStart | str],
    settings: SourceSettings = SourceSettings(),  # noqa: B008 - frozen
    removal: Removal = Removal(),  # noqa: B008 - frozen
) -> Ensured:
    """Makes the consumer groups of every partition what `branches` says; a plain name starts at Now.

    Creates what is missing (a group that had been there before where it had settled everything); lets the groups of
    branches no longer named drain or go, as `removal` says (their dead letters stay until the pipeline goes). Leaves
    the pipeline's settings for publishers (`Publisher.open`) and sweeps. Calling it again changes nothing, but that
    what has drained goes. Raises ValueError when a branch's start is no time, FewerPartitionsError when there are more
    partitions than `keys` names (then nothing is changed: such a call is late, or would lose events),
    ServerUnavailableError.
    """
    starts = [BranchStart(branch) if isinstance(branch, str) else branch for branch in branches]
    parts = [
        part
        for start in starts
        for part in (start.name, start.position, int(start.paused), int(start.ordered))
    ]
    spec = (keys.partitions, *settings.to_fields(), int(removal.drain), int(removal.paused))
    rest: tuple[str | int, ...] = (len(starts), *parts)
    tally = _Tally()
    for partitions, before in await _stages(server, keys):
        await _ensure(server, partitions, tally, (*spec, before, *rest, 0))
    # Gone only where it has nothing left on any partition: its workers need the groups of all.
    drained = tuple(branch for branch, left in tally.draining.items() if left == 0)
    if drained:
        tally.draining = {}
        await _ensure(server, keys.all, tally, (*spec, "", *rest, len(drained), *drained))
    gone = tuple(branch for branch in drained if branch not in tally.draining)
    return Ensured(
        tally.changes, tuple(tally.made), tuple(tally.healed), tally.draining, gone, frozenset(tally.growing)
    )


async def _stages(server: Server, keys: PipelineKeys) -> list[tuple[Sequence[PartitionKeys], str | int]]:
    """The partitions in the order in which they are dealt with, and how many there were before those that are new.

    The new ones come first, so that ordered branches wait there; then the old ones, of which the first tells publishers
    what there is. The events of a key go to a new one when its old one takes them no more (`Homes`).
    """
    if keys.partitions == 1:
        return [(keys.all, "")]
    known = await asyncio.gather(
        *(server.execute(each.settings, "HMGET", each.settings, "partitions") for each in keys.all)
    )
    new = [partition for partition, (count,) in zip(keys.all, known, strict=True) if count is None]
    old = [partition for partition in keys.all if partition not in new]
    if not old or (not new and all(int(count) >= keys.partitions for (count,) in known)):
        return [(keys.all, "")]
    stages: list[tuple[Sequence[PartitionKeys], str | int]] = [(new, len(old)), (old[:1], ""), (old[1:], "")]
    return [stage for stage in stages if stage[0]]


async def _ensure(
    server: Server, partitions: Sequence[PartitionKeys], tally: _Tally, args: tuple[str | int, ...]
) -> None:
    """ensure.lua on these partitions, again where it asks for entries to be counted."""
    left: dict[PartitionKeys, list[str | int]] = {partition: [] for partition in partitions}
    while left:
        calls = [
            Call(ENSURE, (*partition.lanes, f"{partition.tag}:", partition.settings), (*args, *counted))
            for partition, counted in left.items()
        ]
        uncounted: dict[PartitionKeys, list[Any]] = {}
        for partition, reply in zip(left, await server.run_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            if reply[0] == _FEWER:
                raise FewerPartitionsError(
                    f"the pipeline has {reply[1]} partitions on the server and {args[0]} were asked for: they never"
                    f" become fewer; set source.partitions to {reply[1]}, or delete the pipeline and make it again"
                )
            if reply[3]:
                # The next call tells the whole again, but for what this one has changed.
                tally.add((*reply[:4], (), ()))
                uncounted[partition] = reply[3]
            else:
                tally.add(reply)
        left = {partition: await _count(server, partition, places) for partition, places in uncounted.items()}


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
