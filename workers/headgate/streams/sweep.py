"""Housekeeping of a pipeline's streams: joins whose time is up, and trimming. Safe to repeat anywhere."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.contract import OnTimeout
from headgate.streams.errors import StreamsError
from headgate.streams.script import EXPIRE, SWEEP
from headgate.streams.server import Call, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import JoinContract
    from headgate.streams.keys import PartitionKeys, PipelineKeys

DEAD_LETTERS_KEPT = 100_000
"""Of each branch on each partition; the oldest go, and are counted."""

_JOINS_A_CALL = 100
# A stopped branch leaves as many joins open as the others settle meanwhile; but who sweeps has a heart that must beat.
_JOINS_SECONDS = 0.3


class Swept(msgspec.Struct, frozen=True):
    """What a sweep did: joins ended, entries trimmed.

    `lost` says by branch how many events a hard cap of the retention took that the branch had not settled, `dropped`
    how many dead letters went because there were too many.
    """

    joins: int = 0
    trimmed: int = 0
    lost: dict[str, int] = msgspec.field(default_factory=dict)
    dropped: dict[str, int] = msgspec.field(default_factory=dict)


async def sweep(server: Server, keys: PipelineKeys, join: JoinContract | None) -> Swept:
    """Ends joins past their deadline; trims what every branch has settled, and what exceeds the retention's hard caps.

    The pilot runs it; so do workers, should it be dead. The retention is the one that `ensure_groups` left.
    Raises ServerUnavailableError, StreamsError.
    """
    sweeping = tuple(
        Call(
            SWEEP,
            (*partition.lanes, partition.settings, partition.stats, f"{partition.tag}:"),
            (DEAD_LETTERS_KEPT,),
        )
        for partition in keys.all
    )
    joins = 0 if join is None else await _end_joins(server, keys, join)
    replies = await _run_all(server, keys, sweeping)
    lost: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for _, of_lost, of_dropped in replies:
        lost.update(_by_branch(of_lost))
        dropped.update(_by_branch(of_dropped))
    trimmed = sum(reply[0] for reply in replies)
    return Swept(joins, trimmed, dict(lost), dict(dropped))


async def _end_joins(server: Server, keys: PipelineKeys, join: JoinContract) -> int:
    """Ends joins whose time is up, a short call after another, for the server is everybody's; gives their number."""
    ended = 0
    left: Sequence[PartitionKeys] = keys.all
    until = time.monotonic() + _JOINS_SECONDS
    while left:
        replies = await _run_all(server, keys, [_expire(keys.namespace, each, join) for each in left])
        ended += sum(replies)
        left = [each for each, count in zip(left, replies, strict=True) if count == _JOINS_A_CALL]
        if time.monotonic() >= until:
            break
    return ended


async def _run_all(server: Server, keys: PipelineKeys, calls: Sequence[Call]) -> list[Any]:
    replies = await server.run_all(calls)
    for reply in replies:
        if isinstance(reply, StreamsError):
            raise reply
        if isinstance(reply, Exception):
            raise StreamsError(f"sweeping {keys}: {reply}") from reply
    return replies


def _by_branch(flat: Sequence[Any]) -> dict[str, int]:
    return {branch.decode(): count for branch, count in zip(flat[::2], flat[1::2], strict=True)}


def _expire(namespace: str, partition: PartitionKeys, join: JoinContract) -> Call:
    keys = (
        partition.stats,
        partition.joins,
        partition.joined,
        partition.join(""),
        partition.outbox,
        partition.timed_out,
    )
    are_dead = int(join.on_timeout is OnTimeout.DEAD_LETTER)
    output = f"{namespace}/{join.output}" if join.output else ""
    return Call(EXPIRE, keys, (_JOINS_A_CALL, are_dead, join.needed, output, *join.branches))
