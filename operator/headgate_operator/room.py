"""What is known of one pipeline from pass to pass, and what wakes its loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from headgate_operator.manifests import Manifest
    from headgate_operator.reconcile import Findings

Key = tuple[str, str]


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
    removed: bool = False
    """Whether it is being taken down, or was."""

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


class Rooms:
    """The rooms of all pipelines: one for each object, of which two may have one name for a while.

    kopf tells of one object in order; of the end of one and the beginning of the next of its name, in any.
    """

    def __init__(self) -> None:
        self._rooms: dict[Key, dict[str, Room]] = {}

    def __iter__(self) -> Iterator[tuple[Key, Room]]:
        return ((key, room) for key, named in self._rooms.items() for room in named.values())

    def of(self, manifest: Mapping[str, Any]) -> Room:
        """The room of this very object, made when it is first asked for."""
        named = self._rooms.setdefault(key_of(manifest), {})
        uid = manifest["metadata"]["uid"]
        if uid not in named:
            # One lock for a name: keys, workers and user of both have the same names.
            named[uid] = Room(lock=next(iter(named.values())).lock) if named else Room()
        return named[uid]

    def named(self, key: Key) -> Room | None:
        """The room of the object that had the name last; None when there is none."""
        named = self._rooms.get(key)
        return next(reversed(named.values())) if named else None

    def lose(self, manifest: Mapping[str, Any]) -> bool:
        """Takes in that an object is gone; says whether none of its name is left."""
        named = self._rooms.get(key_of(manifest), {})
        named.pop(manifest["metadata"]["uid"], None)
        if not named:
            self._rooms.pop(key_of(manifest), None)
        return not named


def key_of(manifest: Mapping[str, Any]) -> Key:
    """Namespace and name."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
