"""What the pilot saw and asked for at one tick: the source of status, metrics and the table."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headgate_operator.api import GateState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.event import Lane
    from headgate.streams import BranchMeasurement, Closed, PipelineMeasurement
    from headgate_operator.autoscale import Decision
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Workers

RATE_SECONDS = 5.0  # rates shown to people are means over this


@dataclass(frozen=True)
class BranchReading:
    """One branch at one tick; `measurement` is None while it cannot be measured."""

    name: str
    measurement: BranchMeasurement | None
    workers: Workers
    replicas: int
    """What the pilot asked for at this tick."""
    delayed: frozenset[Lane]
    """Lanes its gate holds back."""
    settled_per_second: float
    level: int = 0
    """The highest level it is at, counted from 1 in the list that holds for it; 0 is none."""
    max_age_seconds: float | None = None
    """Age that no event should exceed, as the manifest says; None where it says none."""
    rejected: frozenset[Lane] = frozenset()
    """Lanes whose events publishers are refused for its sake."""
    arrival_per_second: float = 0.0
    """Events published a second, as the branch sees them."""
    decision: Decision | None = None
    """Why it has so many workers; None before the pilot has decided anything."""
    closed: Closed | None = None
    """Why it takes nothing; None when it is open."""

    @property
    def backlog(self) -> int | None:
        """Events not settled; None when unknown."""
        return None if self.measurement is None else self.measurement.backlog

    @property
    def gate(self) -> GateState:
        """Whether it takes events: all, not those of some lanes, or none."""
        if self.closed is not None:
            return GateState.CLOSED
        return GateState.DELAYED if self.delayed else GateState.OPEN

    @property
    def age_seconds(self) -> float | None:
        """Age of the oldest event that is not settled; None when unknown."""
        return None if self.measurement is None else self.measurement.age_ms / 1000


@dataclass(frozen=True)
class PipelineReading:
    """One pipeline at one tick: what status, metrics and the table are made from."""

    pipeline: Pipeline
    measurement: PipelineMeasurement | None
    branches: Mapping[str, BranchReading]
    level: str
    """Name of the highest level any branch is at; empty for none."""
    published_per_second: float
    draining: Mapping[str, int | None] = field(default_factory=dict)
    """Branches that were taken out of the spec, with the events they still have to settle (None: unknown)."""
    error: str = ""
    """Why something is unknown or was not done; empty when all went well."""


class Rate:
    """Growth of a counter a second, over the last RATE_SECONDS."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, value: int) -> None:
        """Takes a reading in; a counter that fell was reset, and counting starts anew."""
        if self._seen and value < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, value))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RATE_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """The rate; 0 before the second reading."""
        if len(self._seen) < 2:
            return 0.0
        (start, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(end - start, 1e-6)
