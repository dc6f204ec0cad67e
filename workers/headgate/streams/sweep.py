"""Housekeeping of a pipeline's streams: joins whose time is up, and trimming. Safe to repeat anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.streams.errors import StreamsError
from headgate.streams.script import SWEEP
from headgate.streams.server import Call, Server

if TYPE_CHECKING:
    from headgate.contract import JoinContract
    from headgate.streams.keys import PipelineKeys

_JOINS_A_CALL = 100


async def sweep(server: Server, keys: PipelineKeys, join: JoinContract | None) -> tuple[int, int]:
    """Emits joins past their deadline as partial records and trims what every branch has settled.

    Gives the number of joins emitted and of entries trimmed. The pilot runs it; so do workers, should it be dead.
    """
    joined = () if join is None else join.branches
    calls = [
        Call(
            SWEEP,
            (
                *partition.lanes,
                partition.stats,
                partition.joins,
                partition.joined,
                partition.join(""),
                partition.settings,
            ),
            (_JOINS_A_CALL, *joined),
        )
        for partition in keys.all
    ]
    emitted = trimmed = 0
    for reply in await server.run_all(calls):
        if isinstance(reply, StreamsError):
            raise reply
        if isinstance(reply, Exception):
            raise StreamsError(f"sweeping {keys}: {reply}") from reply
        emitted += reply[0]
        trimmed += reply[1]
    return emitted, trimmed
