"""The doorbell: one blocking read over sources nobody works on, so that the first event wakes the pilot at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.streams.clients import SOCKET_SECONDS
from headgate.streams.errors import ServerUnavailableError
from headgate.streams.wire import open_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.streams.server import Server


class Doorbell:
    """Every publish rings it, also a bare XADD by hand: the lanes themselves are what it listens to."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def wait(self, last_ids: Mapping[str, str], seconds: float) -> frozenset[str]:
        """Waits until something newer than `last_ids` (stream to entry id) is published; gives the streams that rang.

        None of them after `seconds`. Raises ServerUnavailableError.
        """
        if not last_ids:
            await asyncio.sleep(seconds)
            return frozenset()
        by_slot: dict[str, dict[str, str]] = {}
        for stream, last in last_ids.items():
            slot = stream.partition("}")[0] if self._server.is_cluster else ""
            by_slot.setdefault(slot, {})[stream] = last
        reads = [asyncio.ensure_future(self._read(part, seconds)) for part in by_slot.values()]
        try:
            for read in asyncio.as_completed(reads):
                if rang := await read:
                    return rang
            return frozenset()
        finally:
            for task in reads:
                task.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    async def _read(self, last_ids: Mapping[str, str], seconds: float) -> frozenset[str]:
        # A connection of its own: whoever gives up a blocking read leaves its connection unusable for others.
        wire = await open_wire(self._server, next(iter(last_ids)))
        block_ms = max(1, int(seconds * 1000))
        try:
            async with asyncio.timeout(seconds + SOCKET_SECONDS):
                reply = await wire.call(
                    "XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *last_ids, *last_ids.values()
                )
        except TimeoutError as error:
            raise ServerUnavailableError(f"Redis server {self._server.name}: no answer") from error
        finally:
            wire.close()
        return frozenset(stream.decode() for stream, _ in reply or ())
