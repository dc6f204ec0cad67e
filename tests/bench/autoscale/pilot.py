"""The pilot as the simulation knows it: its own `decide`, a tick a second, and a doorbell for a branch at zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_operator.autoscale import ScalerInputs, ScalerState, decide
from headgate_operator.pilot import MIN_PAUSE_SECONDS, TICK_SECONDS

if TYPE_CHECKING:
    from bench.autoscale.simulation import Seen
    from headgate_operator.autoscale import ScaleLimits


class PilotScaler:
    """The pilot over one branch."""

    def __init__(self, limits: ScaleLimits) -> None:
        self._limits = limits
        self._state = ScalerState()

    def next_look(self, now: float, replicas: int, next_arrival: float) -> float:
        """A tick later; at zero already when the doorbell rings, but no sooner than the pilot's least pause."""
        if replicas:
            return now + TICK_SECONDS
        return min(now + TICK_SECONDS, max(next_arrival, now) + MIN_PAUSE_SECONDS)

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
