"""What befalls an operator that is not killed: stale answers, lost and doubled watch events, refusals, latency.

Derived from a seed and one kind of fault at a time; how often which call is met depends on their order, which is the
operating system's.
"""

from __future__ import annotations

import asyncio
import enum
import json
import random
from collections import deque
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence

LATENCY_SECONDS = 5.0
"""Of every call to the API server, by the operator's clock."""
_SHARE = 0.25
_KEPT_ANSWERS = 4
_MAX_IN_A_ROW = 3
_LOST_AGE_SECONDS = 60.0


class Kind(enum.StrEnum):
    """One sort of bad weather."""

    FAIR = "fair"
    STALE = "stale reads"
    LOST = "dropped watch events"
    DOUBLED = "doubled watch events"
    CONFLICT = "409"
    THROTTLE = "429"
    LATENCY = "5 s latency"


class Weather:
    """Of one lane; `faults` counts what was done."""

    def __init__(self, kind: Kind, seed: str, pace: float) -> None:
        self.kind = kind
        self.faults = 0
        self._dice = random.Random(seed)
        self._pace = pace
        self._answers: dict[str, deque[bytes]] = {}
        self._breaks = False

    def forget(self) -> None:
        """Another operator: another API server's cache."""
        self._answers.clear()
        self._breaks = False

    async def rule(self, method: str, path: str) -> web.Response | None:
        """Waits, or refuses a call in the API server's stead; None lets it pass."""
        if self.kind is Kind.LATENCY:
            self.faults += 1
            await asyncio.sleep(LATENCY_SECONDS / self._pace)
        if self.kind is Kind.CONFLICT and method != "GET" and self._hits():
            return _refusal(409, "Conflict", f"{path}: the object has been modified")
        if self.kind is Kind.THROTTLE and self._hits():
            return _refusal(429, "TooManyRequests", "too many requests")
        return None

    def age(self, path: str, answer: bytes) -> bytes:
        """This answer to a read, or one that was right a moment ago."""
        if self.kind is not Kind.STALE or "/leases" in path:
            return answer
        kept = self._answers.setdefault(path, deque(maxlen=_KEPT_ANSWERS))
        kept.append(answer)
        if self._hits():
            return self._dice.choice(kept)
        return answer

    async def pass_on(self, line: bytes) -> Sequence[bytes]:
        """How often a watch event arrives. A lost one breaks its watch: a watch that lives loses nothing."""
        if self.kind is Kind.LATENCY:
            await asyncio.sleep(LATENCY_SECONDS / self._pace)
        if self.kind is Kind.LOST and self._hits():
            self._breaks = self._dice.random() < 0.5
            return ()
        if self.kind is Kind.DOUBLED and self._hits():
            return (line, line)
        return (line,)

    def breaks_watch(self) -> bool:
        """Whether the watch ends here."""
        breaks, self._breaks = self._breaks, False
        return breaks

    def _hits(self) -> bool:
        hits = self._dice.random() < _SHARE
        self.faults += hits
        return hits


def _refusal(status: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers={"Retry-After": "1"} if status == 429 else {},
    )
