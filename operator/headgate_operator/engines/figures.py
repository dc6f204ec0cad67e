"""What KEDA may ask about branches: the workers that the pilot wants, from its last readings."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from headgate_operator.readings import PipelineReading


class BranchKey(NamedTuple):
    """What tells one branch from another."""

    namespace: str
    pipeline: str
    branch: str

    def __str__(self) -> str:
        return f"{self.branch} of {self.namespace}/{self.pipeline}"


class FigureError(Exception):
    """There is no figure; the message says why."""


class NoSuchBranchError(FigureError):
    """The pipeline is known and has no such branch."""


class Figures:
    """Answers from `reading`, which gives the last reading of a pipeline by namespace and name, if there is one."""

    def __init__(self, reading: Callable[[str, str], PipelineReading | None]) -> None:
        self._reading = reading
        self._watchers: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    def wanted(self, key: BranchKey) -> int:
        """The workers that the branch should have now.

        Raises NoSuchBranchError, and FigureError while the backlog is unknown: that is never taken for zero.
        """
        reading = self._reading(key.namespace, key.pipeline)
        if reading is None:
            raise FigureError(
                f"pipeline {key.namespace}/{key.pipeline}: not measured yet, or there is none here: look at its status"
            )
        branch = reading.branches.get(key.branch)
        if branch is None:
            known = ", ".join(reading.branches)
            raise NoSuchBranchError(
                f"branch: {key.branch!r}: pipeline {reading.pipeline} has none of that name: it has {known}"
            )
        if branch.backlog is None or branch.decision is None:
            why = reading.error or "it cannot be measured"
            raise FigureError(f"branch {key}: its backlog is unknown, so nothing is asked for: {why}")
        return branch.decision.replicas

    def looked(self, key: tuple[str, str]) -> None:
        """Takes in that a pipeline, by namespace and name, has a new reading."""
        for watcher in self._watchers.get(key, ()):
            watcher.set()

    def close(self) -> None:
        """Ends every `activity`, now and later."""
        self._closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.set()

    async def activity(self, key: BranchKey) -> AsyncIterator[bool]:
        """Whether the branch should have any worker: now, then whenever that changes; silent while it is unknown."""
        pipeline = (key.namespace, key.pipeline)
        changed = asyncio.Event()
        self._watchers[pipeline].add(changed)
        told: bool | None = None
        try:
            while not self._closed:
                changed.clear()
                active = self._active(key)
                if active is not None and active != told:
                    told = active
                    yield active
                await changed.wait()
        finally:
            self._watchers[pipeline].discard(changed)
            if not self._watchers[pipeline]:
                del self._watchers[pipeline]

    def _active(self, key: BranchKey) -> bool | None:
        try:
            return self.wanted(key) > 0
        except FigureError:
            return None
