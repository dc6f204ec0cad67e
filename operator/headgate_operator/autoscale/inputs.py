"""What a decision about workers is made from: plain values, none of them from a clock or a network."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ScaleLimits:
    """The bounds and times of `spec.branches[].scale`, and the concurrency of one worker."""

    min: int = 0
    max: int = 10
    drain_within_seconds: float = 30
    scale_down_after_seconds: float = 60
    concurrency: int = 8
    events_per_second: float = math.inf
    """The branch's rate limit: however many workers there are, they go no faster."""
    max_age_seconds: float | None = None
    """Events should not get older than this; None: only the time to drain counts."""
    max_step: int | None = None
    """Most workers that one decision adds; None: as many as are needed."""


@dataclass(frozen=True)
class ScalerInputs:
    """One moment of a branch. Counters are cumulative; one that falls was reset: that interval is left out.

    With an unknown backlog the counters are unknown too, and not looked at.
    """

    now: float
    """Seconds on any clock that only grows."""
    published: int
    settled: int
    busy_seconds: float
    """Time spent inside handlers, summed over all of them."""
    backlog: int | None
    """Everything unsettled; None when it cannot be measured."""
    current: int
    """Replicas asked for now."""
    ready: int
    """Workers that can work now."""
    deferred: int = 0
    """The part of the backlog nobody may take yet: retries that are not due, lanes behind a gate."""
    closed: bool = False
    """Nobody may take anything until a person opens the branch: its target is gone for good."""
    age_seconds: float = 0.0
    """Age of the oldest event that is not settled."""
    paused: bool = False
    """A person wants no workers."""
    restarts: int = 0
    """Workers that ended badly, so far: only its growth counts."""
    scheduled_min: int = 0
    """Fewest workers by the hour of the day, besides `ScaleLimits.min`."""
    at_least: int = 0
    """Unsettled events there are for certain while the backlog is unknown."""
    holders: int = 0
    """Workers that hold events now; 0 where that is not known."""

    @property
    def workable(self) -> int:
        """Events a worker could take or has taken."""
        return max(0, (self.backlog or 0) - self.deferred)
