"""The pilot as the simulation knows it: its own `decide`, a tick a second, a doorbell for a branch at zero."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headgate_operator.autoscale import ScalerInputs, ScalerState, decide
from headgate_operator.pilot import FOLLOW_SECONDS, MIN_PAUSE_SECONDS, TICK_SECONDS

if TYPE_CHECKING:
    from bench.autoscale.simulation import Seen
    from headgate_operator.autoscale import ScaleLimits


class PilotScaler:
    """The pilot over one branch."""

    def __init__(self, limits: ScaleLimits) -> None:
        self._limits = limits
        self._state = ScalerState()
        self._follow = -math.inf

    def next_look(self, now: float, replicas: int, next_arrival: float) -> float:
        """At the next tick; at zero when the doorbell rings, and a moment after it for the rest of a burst."""
        tick = (math.floor(now / TICK_SECONDS) + 1) * TICK_SECONDS
        if self._follow > now:
            return min(tick, self._follow)
        ring = max(next_arrival, now) + MIN_PAUSE_SECONDS
        if replicas or ring >= tick:
            return tick
        self._follow = ring + FOLLOW_SECONDS
        return ring

    def look(self, seen: Seen) -> int:
        """What `decide` says."""
        inputs = ScalerInputs(
            now=seen.now,
            published=seen.published,
            settled=seen.settled,
            busy_seconds=seen.busy_seconds,
            backlog=seen.backlog,
            current=seen.replicas,
            ready=seen.ready,
            age_seconds=seen.age_seconds,
            holders=seen.holders,
        )
        decision = decide(self._state, inputs, self._limits)
        self._state = decision.state
        return decision.replicas
