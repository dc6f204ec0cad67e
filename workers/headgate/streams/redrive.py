"""Dead letters given to their branch again, or removed: by filter, at a rate, and safe to break off at any time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headgate.streams.deadletters import Letter, LetterFilter, find_letters
from headgate.streams.errors import NotProvisionedError
from headgate.streams.script import REDRIVE
from headgate.streams.server import Call, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headgate.streams.keys import PartitionKeys, PipelineKeys

_BATCH = 100  # letters a call: the server is everybody's
_BATCHES_A_SECOND = 10  # at a rate


async def redrive(
    server: Server, keys: PipelineKeys, branch: str, wanted: LetterFilter, per_second: float = 0
) -> AsyncIterator[int]:
    """Gives dead letters to their branch again, each as a first attempt; yields how many so far, batch by batch.

    Each leaves the dead letters in the same step that puts it into the branch's retries. `per_second` spreads them
    (0: as fast as it goes). In a join they change nothing: its record was made when they failed, and what comes now is
    counted as late. Raises NotProvisionedError when the branch is no more, ServerUnavailableError.
    """
    size = _BATCH if per_second <= 0 else max(1, min(_BATCH, int(per_second / _BATCHES_A_SECOND)))
    started, moved = time.monotonic(), 0
    async for batch in _batches(server, keys, branch, wanted, size):
        if per_second > 0:
            await asyncio.sleep(max(0.0, started + moved / per_second - time.monotonic()))
        partition = keys.partition(batch[0].partition)
        (reply,) = await server.run_all([_call(partition, branch, [letter.entry for letter in batch])])
        if isinstance(reply, Exception):
            raise reply
        if reply < 0:
            raise NotProvisionedError(
                f"pipeline {keys} has no branch {branch!r} any more: its dead letters can only be purged"
            )
        moved += reply
        yield moved


async def purge(server: Server, keys: PipelineKeys, branch: str, wanted: LetterFilter) -> AsyncIterator[int]:
    """Removes dead letters of a branch (or JOIN) for good; yields how many so far. Raises ServerUnavailableError."""
    removed = 0
    async for batch in _batches(server, keys, branch, wanted, _BATCH):
        name = keys.partition(batch[0].partition).dead(branch)
        removed += await server.execute(name, "XDEL", name, *(letter.entry for letter in batch))
        yield removed


async def _batches(
    server: Server, keys: PipelineKeys, branch: str, wanted: LetterFilter, size: int
) -> AsyncIterator[list[Letter]]:
    """Letters of one partition at a time."""
    batch: list[Letter] = []
    async for letter in find_letters(server, keys, branch, wanted):
        if batch and (len(batch) >= size or batch[0].partition != letter.partition):
            yield batch
            batch = []
        batch.append(letter)
    if batch:
        yield batch


def _call(partition: PartitionKeys, branch: str, entries: Sequence[str]) -> Call:
    keys = (
        partition.dead(branch),
        partition.retry(branch),
        partition.stats,
        partition.blocked(branch),
        partition.parked(branch),
        partition.owner(branch),
    )
    return Call(REDRIVE, keys, (branch, *entries))
