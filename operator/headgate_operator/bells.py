"""Listening for the first event of pipelines that nobody looks at meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.streams import Doorbell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.streams import Server

LISTEN_SECONDS = 60.0  # a read that nobody ends is asked again: its connection may have died unheard
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class _Ear:
    last_ids: Mapping[str, str]
    task: asyncio.Task[frozenset[str]]


class Bells:
    """A doorbell a server: one blocking read that every publish ends. It is kept from tick to tick."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ears: dict[Server, _Ear] = {}
        self._struck = asyncio.Event()

    def strike(self) -> None:
        """Ends the wait under way, or the next one, without a stream."""
        self._struck.set()

    def listen(self, waiting: Mapping[Server, Mapping[str, str]]) -> None:
        """From now on to these: streams and the ids after which an event rings, by server.

        What rang for the same since the last wait is kept for the next one.
        """
        for server in self._ears.keys() - waiting.keys():
            self._ears.pop(server).task.cancel()
        for server, last_ids in waiting.items():
            ear = self._ears.get(server)
            if ear is not None and ear.last_ids == last_ids and (not ear.task.done() or ear.task.result()):
                continue
            if ear is not None:
                ear.task.cancel()
            self._ears[server] = _Ear(last_ids, asyncio.create_task(_ring(server, last_ids)))

    async def wait(self, until: float) -> frozenset[str] | None:
        """The streams that rang, as soon as any did, or none when it was struck; None when it is `until`.

        What rang before is told though `until` is past.
        """
        struck = asyncio.create_task(self._struck.wait())
        try:
            while True:
                left = until - self._clock()
                tasks = [ear.task for ear in self._ears.values()]
                done, _ = await asyncio.wait(
                    (*tasks, struck), timeout=max(left, 0.0), return_when=asyncio.FIRST_COMPLETED
                )
                self._ears = {server: ear for server, ear in self._ears.items() if ear.task not in done}
                rang = frozenset[str]().union(*(task.result() for task in tasks if task in done))
                if rang or struck in done:
                    self._struck.clear()
                    return rang
                if left <= 0:
                    return None
        finally:
            struck.cancel()

    async def aclose(self) -> None:
        """Stops listening."""
        tasks = [ear.task for ear in self._ears.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ring(server: Server, last_ids: Mapping[str, str]) -> frozenset[str]:
    try:
        return await Doorbell(server).wait(last_ids, LISTEN_SECONDS)
    except Exception:  # noqa: BLE001 - the next tick says what is wrong with the server
        await asyncio.sleep(RETRY_SECONDS)
        return frozenset()
