"""Replaying a branch from a time on: it gets again what the source still keeps, and no other branch notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.streams.errors import NotProvisionedError
from headgate.streams.script import HISTORY, REPLAY
from headgate.streams.server import Call, Server
from headgate.streams.spans import count_entries

if TYPE_CHECKING:
    from headgate.streams.keys import PipelineKeys

_LAST_SEQUENCE = 2**64 - 1


class ReplayPlan(msgspec.Struct, frozen=True):
    """What a replay would do: events to be read again on each partition, and how far back all history is there.

    `reaches_ms` is the time in ms since 1970 from which on nothing was trimmed; 0 when nothing ever was.
    """

    branch: str
    entries: tuple[int, ...]
    reaches_ms: int
    moves: tuple[tuple[str | int, ...], ...]
    """Of each partition, for each lane: the place it is put at ('': it stays), entries read up to there."""


class _Lane(msgspec.Struct):
    stream: str
    partition: int
    place: str
    last_given: str
    unread: int
    last: str
    added: int
    counted: int = 0

    @property
    def is_moved(self) -> bool:
        return _number(self.place) < _number(self.last_given)


async def server_ms(server: Server, keys: PipelineKeys) -> int:
    """The server's time in ms, by which entries are stamped."""
    reply = await _history(server, keys, "")
    return int(reply[0][0])


async def plan_replay(server: Server, keys: PipelineKeys, branch: str, since_ms: int) -> ReplayPlan:
    """Finds out what replaying a branch from a time on (ms since 1970, by the server's clock) would read again.

    Counts entry by entry, a second for a few hundred thousand. Raises NotProvisionedError when the branch has no group,
    ServerUnavailableError.
    """
    place = f"{since_ms - 1}-{_LAST_SEQUENCE}" if since_ms > 0 else "0-0"
    lanes: list[_Lane] = []
    reaches_ms = 0
    for partition, (_, *found) in zip(keys.all, await _history(server, keys, branch), strict=True):
        for stream, (exists, given, unread, last, added, _, trimmed) in zip(
            partition.lanes, found, strict=True
        ):
            if not exists:
                raise _missing(keys, branch)
            if trimmed:
                ms, sequence = _number(trimmed.decode())
                reaches_ms = max(reaches_ms, ms + (sequence > 0))
            lanes.append(_Lane(stream, partition.number, place, given.decode(), unread, last.decode(), added))
    moved = [lane for lane in lanes if lane.is_moved]
    # Up to a fixed id, so that what is published meanwhile does not matter.
    spans = [(lane.stream, lane.place, lane.last_given) for lane in moved]
    unknown = [lane for lane in moved if lane.unread < 0]
    counts = await count_entries(
        server, [*spans, *((lane.stream, lane.last_given, lane.last) for lane in unknown)]
    )
    for lane, count in zip(moved, counts, strict=False):
        lane.counted = count
    for lane, count in zip(unknown, counts[len(moved) :], strict=True):
        lane.unread = count
    by_partition = [lanes[at : at + 3] for at in range(0, len(lanes), 3)]
    return ReplayPlan(
        branch=branch,
        entries=tuple(sum(lane.counted for lane in three) for three in by_partition),
        reaches_ms=reaches_ms,
        moves=tuple(tuple(part for lane in three for part in _move(lane)) for three in by_partition),
    )


async def replay(server: Server, keys: PipelineKeys, plan: ReplayPlan) -> int:
    """Puts the branch back as planned; gives how many events it reads again.

    Doing it again changes nothing but what was read meanwhile. Raises NotProvisionedError, ServerUnavailableError.
    """
    calls = [
        Call(
            REPLAY,
            (*partition.lanes, partition.settings, partition.again(plan.branch)),
            (plan.branch, *move),
        )
        for partition, move in zip(keys.all, plan.moves, strict=True)
    ]
    for reply in await server.run_all(calls):
        if isinstance(reply, Exception):
            raise reply
        if reply < 0:
            raise _missing(keys, plan.branch)
    return sum(plan.entries)


async def _history(server: Server, keys: PipelineKeys, branch: str) -> list[Any]:
    calls = [Call(HISTORY, (*partition.lanes, partition.settings), (branch,)) for partition in keys.all]
    replies = await server.run_all(calls)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _move(lane: _Lane) -> tuple[str | int, int]:
    return (lane.place, lane.added - lane.unread - lane.counted) if lane.is_moved else ("", 0)


def _number(entry: str) -> tuple[int, int]:
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence)


def _missing(keys: PipelineKeys, branch: str) -> NotProvisionedError:
    return NotProvisionedError(f"pipeline {keys} has no branch {branch!r} on this server: look at its name")
