"""What is known of one pipeline from pass to pass, and what wakes its loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_operator.manifests import Manifest
    from headgate_operator.reconcile import Findings


@dataclass
class Room:
    """What is known of one pipeline from pass to pass."""

    changed: bool = False
    """Whether a pass is due."""
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a reason to look: a change, or a new reading of the pilot."""
    waiting_since: float | None = None
    """When the pass under way last got an answer from the API server, or began; None between passes."""
    doubted: dict[str, Manifest] = field(default_factory=dict)
    """Deployments, by name, that were not as they had been left when a watch told of them during the pass."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    findings: Findings | None = None
    seen: tuple[int, bool, str] | None = None
    """The generation that a watch event had last, whether it was for a dry run, and what asks for a password."""
    removed_uid: str = ""

    def change(self) -> None:
        """A pass is due."""
        self.changed = True
        self.stirred.set()

    def answered(self, at: float) -> None:
        """The pass under way got on at this monotonic time."""
        self.waiting_since = at

    async def rest(self, seconds: float) -> bool:
        """Returns when stirred, or after so many seconds; says whether it was stirred."""
        # A timer and an event: of a thousand pipelines each second, `asyncio.timeout` alone is noticed.
        loop = asyncio.get_running_loop()
        until = loop.time() + max(seconds, 0.0)
        alarm = loop.call_at(until, self.stirred.set)
        try:
            await self.stirred.wait()
        finally:
            alarm.cancel()
        self.stirred.clear()
        return loop.time() < until
