"""What handlers counted and put: the sums and values of a whole pipeline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server


_CHUNK = 1000  # counters a command: the server is everybody's


async def read_counts(server: Server, keys: PipelineKeys, prefix: str = "") -> dict[str, int]:
    """The counters whose name begins with `prefix`, and their sums over the partitions, by name.

    The server gives all that it has, whatever the prefix. Raises ServerUnavailableError.
    """
    sums: dict[str, int] = {}
    beginning = prefix.encode()
    for found in await _hashes(server, [partition.counts for partition in keys.all]):
        for name, value in found.items():
            if name.startswith(beginning):
                counter = name.decode(errors="replace")
                sums[counter] = sums.get(counter, 0) + int(value)
    return dict(sorted(sums.items()))


async def remove_counts(server: Server, keys: PipelineKeys, names: Iterable[str]) -> int:
    """Removes counters from every partition; gives how many of these names there were.

    It is for counters that nobody counts any more: one that is counted again begins at zero, and of one that is counted
    meanwhile a part may stay. It may be repeated: what is gone is not counted again. Raises ServerUnavailableError.
    """
    wanted = list(dict.fromkeys(names))
    hashes = [partition.counts for partition in keys.all]
    removed: set[str] = set()
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        replies = await asyncio.gather(*(server.execute(name, "HMGET", name, *chunk) for name in hashes))
        there = {
            name: [counter for counter, value in zip(chunk, reply, strict=True) if value is not None]
            for name, reply in zip(hashes, replies, strict=True)
        }
        await asyncio.gather(
            *(server.execute(name, "HDEL", name, *found) for name, found in there.items() if found)
        )
        removed.update(*there.values())
    return len(removed)


async def read_values(server: Server, keys: PipelineKeys) -> dict[str, Any]:
    """Every value that was put, by key. Raises ServerUnavailableError.

    Partitions that were added move a key's home; what was put before is then found at its old place, and counts only
    while nothing newer is at the new one.
    """
    values: dict[str, Any] = {}
    homes: set[str] = set()
    found_by_partition = await _hashes(server, [partition.values for partition in keys.all])
    for partition, found in zip(keys.all, found_by_partition, strict=True):
        for name, value in found.items():
            key = name.decode(errors="replace")
            is_home = keys.partition_of(key) == partition.number
            if is_home or key not in homes:
                values[key] = msgspec.json.decode(value)
            if is_home:
                homes.add(key)
    # What is removed is null for a moment, where it hides what another partition may have (scripts/effects.lua).
    return {key: value for key, value in sorted(values.items()) if value is not None}


async def read_value(server: Server, keys: PipelineKeys, key: str) -> Any:
    """One value that was put, or None. Raises ServerUnavailableError.

    Partitions that were added take keys from those before and give none back, so that a value which is not at home yet
    is at the last place before it, where it stays while an ordered branch waits on the new partition (growing.py).
    """
    for number in range(keys.partition_of(key), -1, -1):
        name = keys.partition(number).values
        found = await server.execute(name, "HGET", name, key)
        if found is not None:
            return msgspec.json.decode(found)
    return None


async def _hashes(server: Server, names: list[str]) -> list[dict[bytes, bytes]]:
    # Pairs or a dictionary: it is the client library that decides, by the version of the protocol.
    replies = await asyncio.gather(*(server.execute(name, "HGETALL", name) for name in names))
    return [
        reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        for reply in replies
    ]
