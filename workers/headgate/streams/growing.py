"""Ordered branches on partitions that were added: they wait until the old partitions are through with their keys.

A key that moved to a new partition may have events on the old one. Those come first: a new partition of an ordered
branch is held (scripts/ensure.lua) until the branch has settled everything that the old ones had when it was added, and
no key that belongs elsewhere now waits there for another attempt. Until then the value of such a key stays on the old
one too (scripts/effects.lua).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.streams.script import MOVED, THROUGH
from headgate.streams.server import Call

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server


async def release_grown(server: Server, keys: PipelineKeys, branches: Collection[str]) -> frozenset[str]:
    """Lets those of `branches` that are through read the partitions they wait on; gives those that still wait.

    Calling it again changes nothing. Raises ServerUnavailableError.
    """
    waiting = {branch: await _release(server, keys, branch) for branch in branches}
    return frozenset(branch for branch, waits in waiting.items() if waits)


async def _release(server: Server, keys: PipelineKeys, branch: str) -> bool:
    """Whether the branch still waits somewhere."""
    names = [partition.held(branch) for partition in keys.all]
    found = await asyncio.gather(*(server.execute(name, "HMGET", name, "growing") for name in names))
    held = {name: int(before) for name, (before,) in zip(names, found, strict=True) if before is not None}
    for before in sorted(set(held.values())):
        if not await _is_through(server, keys, branch, before):
            return True
        # First, so that nothing is put on an old place any more when the new one is read.
        calls = [Call(MOVED, (each.settings,), (branch, before)) for each in keys.all[:before]]
        for reply in await server.run_all(calls):
            if isinstance(reply, Exception):
                raise reply
        free = [name for name, its in held.items() if its == before]
        await asyncio.gather(*(server.execute(name, "HDEL", name, "growing") for name in free))
    return False


async def _is_through(server: Server, keys: PipelineKeys, branch: str, before: int) -> bool:
    """Whether the first `before` partitions hold nothing more of the branch that has to come first."""
    old = keys.all[:before]
    calls = [Call(THROUGH, (*each.lanes, each.settings, each.blocked(branch)), (branch,)) for each in old]
    for partition, reply in zip(old, await server.run_all(calls), strict=True):
        if isinstance(reply, Exception):
            raise reply
        through, *blocked = reply
        if not through or any(keys.partition_of(key.decode()) != partition.number for key in blocked):
            return False
    return True
