"""Waiting for the next tick, or for the first event of a branch without workers: whichever comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.streams import Doorbell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.streams import Server


class Bells:
    """A doorbell a server: one blocking read that every publish ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ringing: dict[Server, asyncio.Task[bool]] = {}

    async def wait(self, waiting: Mapping[Server, Mapping[str, str]], until: float) -> None:
        """Returns at `until`, or when a stream got an event after its last id; `waiting` gives those by server."""
        for server, last_ids in waiting.items():
            if server not in self._ringing:
                self._ringing[server] = asyncio.create_task(
                    _ring(server, dict(last_ids), until - self._clock())
                )
        while (left := until - self._clock()) > 0:
            if not self._ringing:
                await asyncio.sleep(left)
                return
            done, _ = await asyncio.wait(
                self._ringing.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            self._ringing = {server: task for server, task in self._ringing.items() if task not in done}
            if any(task.result() for task in done):
                return

    async def aclose(self) -> None:
        """Stops listening."""
        for task in self._ringing.values():
            task.cancel()
        await asyncio.gather(*self._ringing.values(), return_exceptions=True)


async def _ring(server: Server, last_ids: dict[str, str], seconds: float) -> bool:
    try:
        return await Doorbell(server).wait(last_ids, max(seconds, 0.01))
    except Exception:  # noqa: BLE001 - the next tick says what is wrong with the server
        await asyncio.sleep(max(seconds, 0.01))
        return False
