"""A model of KEDA over a HorizontalPodAutoscaler, fed the true backlog: what it does at best.

KEDA polls a scaler every `pollingInterval` and only moves between zero and one; from one on the HPA, every 15 s
(kube-controller-manager's `--horizontal-pod-autoscaler-sync-period`), asks KEDA for the metric and follows
pkg/controller/podautoscaler: desired = ceil(backlog / target) where the quotient of that to what runs is off by
more than 10%; upward at most the greatest of its policies a period; downward the highest of what was recommended in
the stabilisation window. KEDA goes to zero `cooldownPeriod` after it last saw an event.

The target a replica is what one worker drains in `drainWithinSeconds`; KEDA's own scaler for Redis Streams knows
less (its lag can be nil, which counts as zero): that is not held against it here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from bench.autoscale.simulation import Seen
    from bench.autoscale.traces import Branch

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
PERIOD_SECONDS = 15.0  # of the policies upward
ROUNDING = 1e-6  # of sums of periods


@dataclass(frozen=True)
class KedaSettings:
    """What a ScaledObject says: seconds; `is_bounded`: the HPA's default policies upward, else no bound."""

    polling_seconds: float
    cooldown_seconds: float
    stabilization_seconds: float
    is_bounded: bool


DEFAULT = KedaSettings(polling_seconds=30, cooldown_seconds=300, stabilization_seconds=300, is_bounded=True)


def tuned(branch: Branch) -> KedaSettings:
    """As far as KEDA lets one: polled each second, no bound upward, down as soon as the branch's manifest says."""
    window = branch.scale_down_after_seconds
    return KedaSettings(
        polling_seconds=1, cooldown_seconds=window, stabilization_seconds=window, is_bounded=False
    )


class KedaScaler:
    """KEDA and HPA over one branch; `random` says when in their periods they are as the trace begins."""

    def __init__(self, settings: KedaSettings, branch: Branch, random: Random) -> None:
        self._settings = settings
        self._max = branch.max
        self._target = branch.worker_rate * branch.drain_within_seconds
        self._poll = random.uniform(0, settings.polling_seconds)
        self._sync = random.uniform(0, SYNC_SECONDS)
        self._active = -math.inf
        self._recommended: list[tuple[float, int]] = []
        self._added: list[tuple[float, int]] = []

    def next_look(self, now: float, _replicas: int, _next_arrival: float) -> float:
        """The next poll or sync."""
        return max(now, min(self._poll, self._sync))

    def look(self, seen: Seen) -> int:
        """Polls and syncs, if it is time for either."""
        replicas = seen.replicas
        if seen.now >= self._poll:
            self._poll += self._settings.polling_seconds
            replicas = self._activate(seen, replicas)
        if seen.now >= self._sync:
            self._sync += SYNC_SECONDS
            if replicas:
                replicas = self._follow(seen, replicas)
        return replicas

    def _activate(self, seen: Seen, replicas: int) -> int:
        if seen.backlog:
            self._active = seen.now
            return max(replicas, 1)
        idle = seen.now - self._active >= self._settings.cooldown_seconds - ROUNDING
        if idle:
            self._recommended.clear()
        return 0 if idle else replicas

    def _follow(self, seen: Seen, replicas: int) -> int:
        ratio = seen.backlog / (self._target * replicas)
        desired = replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(seen.backlog / self._target)
        desired = min(max(desired, 1), self._max)
        since = seen.now - self._settings.stabilization_seconds
        self._recommended = [(at, value) for at, value in self._recommended if at > since]
        self._recommended.append((seen.now, desired))
        if desired < replicas:
            return min(replicas, max(value for _, value in self._recommended))
        if self._settings.is_bounded:
            self._added = [
                (at, count) for at, count in self._added if at > seen.now - PERIOD_SECONDS + ROUNDING
            ]
            before = replicas - sum(count for _, count in self._added)
            desired = min(desired, max(before + 4, before * 2, replicas))
        if desired > replicas:
            self._added.append((seen.now, desired - replicas))
        return desired
