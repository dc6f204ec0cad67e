"""Rounds of looks: one a server at a time, servers side by side, and none waits for another."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from headgate.streams.url import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from headgate.streams import Server
    from headgate_operator.flight import Flight

ROUND_TIMEOUT_SECONDS = 15.0  # one share of a server's round, the substrate's calls included
_AT_ONCE = 50  # pipelines: the loop has others to serve between two shares of a round

log = structlog.get_logger()


class Rounds:
    """The rounds under way; `look` measures and steers some pipelines of one server."""

    def __init__(self, look: Callable[[Server, Sequence[Flight]], Awaitable[None]]) -> None:
        self._look = look
        self._tasks: dict[Server, asyncio.Task[None]] = {}

    def __contains__(self, server: Server) -> bool:
        return server in self._tasks

    async def begin(self, wanted: Mapping[Server, Sequence[Flight]], seconds: float) -> None:
        """Begins a round for each server that has none under way, and waits for those so many seconds at most.

        One that takes longer goes on alone, and nobody waits for it again: a server that hangs would make every tick
        late, and the doorbells of all others with it. Raises what a round failed with.
        """
        self._collect()
        begun = {
            server: asyncio.create_task(self._round(server, flights))
            for server, flights in wanted.items()
            if server not in self._tasks
        }
        if begun:
            self._tasks |= begun
            await asyncio.wait(begun.values(), timeout=seconds)
            self._collect()

    async def aclose(self) -> None:
        """Ends the rounds under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _collect(self) -> None:
        for server in [server for server, task in self._tasks.items() if task.done()]:
            self._tasks.pop(server).result()

    async def _round(self, server: Server, flights: Sequence[Flight]) -> None:
        for at in range(0, len(flights), _AT_ONCE):
            share = [flight for flight in flights[at : at + _AT_ONCE] if not flight.removed]
            if not share:
                continue
            try:
                async with asyncio.timeout(ROUND_TIMEOUT_SECONDS):
                    with _looking(share):
                        await self._look(server, share)
            except TimeoutError:  # one pipeline's, maybe: the other shares have their look all the same
                log.warning("round timed out", server=redact(server.url), seconds=ROUND_TIMEOUT_SECONDS)


@contextmanager
def _looking(flights: Sequence[Flight]) -> Iterator[None]:
    over = asyncio.Event()
    for flight in flights:
        flight.look = over
    try:
        yield
    finally:
        for flight in flights:
            flight.look = None
        over.set()
