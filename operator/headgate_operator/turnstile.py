"""So many at once, and whoever began first goes first.

Of a thousand passes that share few calls in the order they ask, none is through before nearly all are: each call of
each waits for one of every other. Here a pass that began earlier has its next call before those that began later.
"""

from __future__ import annotations

import asyncio
import heapq
from contextlib import asynccontextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

place: ContextVar[float] = ContextVar("place", default=0.0)
"""Where those who ask in this context stand: the lowest goes first, and without one at the front."""


class Turnstile:
    """Lets `places` through at once."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for its turn, and gives it on afterwards."""
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (place.get(), next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was given a turn in the moment it gave up
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
