"""What becomes of each call an operator makes: it passes, or the operator dies before it or right after it.

Both proxies ask one Fate. A crash point is a write by its name, which of its occurrences since the last change, and the
side on which the operator dies. Once struck nothing passes any more, in either direction: what the dead process had
under way is lost.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from typing import NamedTuple

ANY = "*"
"""As the name of a point: any write, so that the occurrence counts all of them."""


class Side(enum.StrEnum):
    """When the operator dies: before the write gets anywhere, or when it is done and nobody heard of it."""

    BEFORE = "before"
    AFTER = "after"


class Point(NamedTuple):
    """One place to die at."""

    write: str
    occurrence: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} write {self.occurrence} of {self.write}"


class StruckError(Exception):
    """The operator is dead: this call has no answer."""


class Fate:
    """Of one operator process at a time; `renew` before each change and after each death."""

    def __init__(self) -> None:
        self.struck = asyncio.Event()
        self.point: Point | None = None
        self.counts: Counter[str] = Counter()
        self.last_write = 0.0
        self._under_way = 0

    def renew(self, point: Point | None = None) -> None:
        """The next process: counts anew, and dies at this point."""
        self.struck.clear()
        self.counts.clear()
        self.point = point

    def enter(self, write: str | None) -> bool:
        """A call sets out; `write` names it when it is one. Says whether to die after it; raises StruckError."""
        if self.struck.is_set():
            raise StruckError
        self._under_way += 1
        if write is None:
            return False
        self.counts[write] += 1
        self.last_write = asyncio.get_running_loop().time()
        if self.point is None or self._reached(self.point, write) is False:
            return False
        if self.point.side is Side.AFTER:
            return True
        self._under_way -= 1
        self.struck.set()
        raise StruckError

    def leave(self, *, dies: bool) -> None:
        """A call is done; raises StruckError when nobody is there any more to hear of it."""
        self._under_way -= 1
        if dies:
            self.struck.set()
        if self.struck.is_set():
            raise StruckError

    def abandon(self) -> None:
        """A call failed on its way."""
        self._under_way -= 1

    async def still(self) -> None:
        """Returns when what the dead process had sent out has arrived."""
        while self._under_way:  # noqa: ASYNC110 - a death waits for milliseconds
            await asyncio.sleep(0.005)

    def _reached(self, point: Point, write: str) -> bool:
        if point.write == ANY:
            return self.counts.total() == point.occurrence
        return point.write == write and self.counts[write] == point.occurrence
