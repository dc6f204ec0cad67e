"""How many workers a branch should have: a pure decision from one second's figures and what was seen before.

    replicas = ceil((arrival rate + backlog / drainWithinSeconds) / measured rate of one worker)

clamped to `min..max`; upward at once, downward only when every target of the last `scaleDownAfterSeconds` was
lower. What is not known is never taken for zero: an unknown backlog holds what is there, and nothing goes to zero
over unsettled events, except a closed branch, where workers could do nothing: it has `min` at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

ARRIVAL_SECONDS = 10.0  # the arrival rate is taken over this many seconds
SHORTEST_SECONDS = 0.01  # an interval shorter than this says nothing of a rate: it is added to the next
MEMORY_SECONDS = 30.0  # how fast old measurements of a worker's rate fade (time constant), for short handlers


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

    @property
    def workable(self) -> int:
        """Events a worker could take or has taken."""
        return max(0, (self.backlog or 0) - self.deferred)


@dataclass(frozen=True)
class WorkerRate:
    """What is known about one worker's speed: sums that fade together; their quotients are recent means."""

    settled: float = 0.0
    worker_seconds: float = 0.0
    """Only of intervals in which every worker had enough to do: idle time says nothing about speed."""
    handled: float = 0.0
    busy_seconds: float = 0.0

    @property
    def handler_seconds(self) -> float | None:
        """Mean time of one event inside the handler, its failed attempts included; None before the first."""
        return self.busy_seconds / self.handled if self.handled > 0 else None

    def per_second(self, concurrency: int) -> float | None:
        """Events one busy worker settles a second; None while nothing has been settled.

        Measured under saturation where there is enough of it, else what `concurrency` handlers side by side
        would do.
        """
        handler = self.handler_seconds
        if self.settled > 0 and self.worker_seconds >= 3 * max(1.0, handler or 0.0):
            return self.settled / self.worker_seconds
        return concurrency / max(handler, 1e-6) if handler is not None else None


@dataclass(frozen=True)
class ScalerState:
    """What a decision remembers for the next; kept as long as the branch, so the rate survives scale-to-zero."""

    rate: WorkerRate = WorkerRate()
    previous: ScalerInputs | None = None
    arrivals: tuple[tuple[float, float, float], ...] = ()
    """(end of the interval, its seconds, events a second), oldest first."""
    targets: tuple[tuple[float, int], ...] = ()
    """(time, target) within the window, oldest first; falling, as a lower one before a higher decides nothing."""

    @property
    def arrival_rate(self) -> float:
        """Events published a second: the interquartile mean over the last seconds.

        It leaves a single burst to the backlog, where a mean would count those events a second time.
        """
        whole = sum(seconds for _, seconds, _ in self.arrivals)
        low, high, at, total = whole / 4, whole * 3 / 4, 0.0, 0.0
        for _, seconds, rate in sorted(self.arrivals, key=lambda arrival: arrival[2]):
            total += rate * max(0.0, min(at + seconds, high) - max(at, low))
            at += seconds
        return total / (high - low) if whole else 0.0


@dataclass(frozen=True)
class Decision:
    """How many workers to ask for, and why: one CamelCase word for programs, one sentence for people."""

    state: ScalerState
    replicas: int
    reason: str
    sentence: str


def decide(state: ScalerState, inputs: ScalerInputs, limits: ScaleLimits) -> Decision:
    """The next state and the replicas to ask for: within `limits.min..limits.max`, or 0 while paused."""
    if inputs.backlog is not None:
        state = _learn(state, inputs, limits)
    if inputs.paused:
        state = replace(state, targets=((inputs.now, 0),))
        return Decision(state, 0, "Paused", "0 workers: paused")
    least = min(max(limits.min, inputs.scheduled_min), limits.max)
    if inputs.closed:
        state = replace(state, targets=((inputs.now, least),))
        return Decision(state, least, "Closed", f"{least} workers: the branch is closed, the minimum is held")
    held = min(max(inputs.current, least), limits.max)
    target = held if inputs.backlog is None else _target(state, inputs, limits, least)
    # What runs at the first look (the operator restarted) counts as a target too, or it would drop at once.
    before = state.targets or ((inputs.now, held),)
    since = inputs.now - limits.scale_down_after_seconds
    kept = tuple((at, value) for at, value in before if at > since and value > target)
    state = replace(state, targets=(*kept, (inputs.now, target)))
    highest = max(value for _, value in state.targets)
    replicas = min(max(highest, least), limits.max)
    if inputs.backlog is None:
        return Decision(
            state, replicas, "Unknown", f"{replicas} workers: the backlog is unknown, they are held"
        )
    figures = f"{inputs.backlog} events wait, {state.arrival_rate:.1f} a second arrive"
    if replicas > target:
        return Decision(state, replicas, "Window", f"{replicas} workers: {figures}; {target} would do by now")
    reason = "Steady" if replicas == inputs.current else "Backlog" if inputs.backlog else "Arrivals"
    return Decision(state, replicas, reason, f"{replicas} workers: {figures}")


def _target(state: ScalerState, inputs: ScalerInputs, limits: ScaleLimits, least: int) -> int:
    rate = state.rate.per_second(limits.concurrency)
    if rate is None:
        # Nothing was ever settled: a slot for each event is the only guess that cannot be too slow.
        wanted = math.ceil(inputs.workable / limits.concurrency)
    else:
        speed = state.arrival_rate + inputs.workable / limits.drain_within_seconds
        needed = min(speed, limits.events_per_second) / rate
        wanted = math.ceil(min(needed, limits.max))  # a rate that faded to almost nothing makes it infinite
    return min(max(wanted, 1 if inputs.backlog else 0, least), limits.max)


def _learn(state: ScalerState, inputs: ScalerInputs, limits: ScaleLimits) -> ScalerState:
    previous = state.previous
    if previous is None:
        return replace(state, previous=inputs)
    seconds = inputs.now - previous.now
    if seconds < SHORTEST_SECONDS:
        return state
    reset = inputs.published < previous.published or inputs.settled < previous.settled
    if reset:
        return replace(state, previous=inputs)
    arrived = (inputs.now, seconds, (inputs.published - previous.published) / seconds)
    recent = tuple(a for a in state.arrivals if a[0] > inputs.now - ARRIVAL_SECONDS)
    return replace(
        state,
        previous=inputs,
        arrivals=(*recent, arrived),
        rate=_learn_rate(state.rate, previous, inputs, limits.concurrency),
    )


def _learn_rate(
    rate: WorkerRate, previous: ScalerInputs, inputs: ScalerInputs, concurrency: int
) -> WorkerRate:
    settled = inputs.settled - previous.settled
    busy = max(0.0, inputs.busy_seconds - previous.busy_seconds)
    enough = min(previous.ready, inputs.ready) * concurrency
    if enough > 0 and min(previous.workable, inputs.workable) >= enough:
        seconds = inputs.now - previous.now
        # Long handlers settle in clumps: remember several of their durations, or a pause would look slow.
        memory = max(MEMORY_SECONDS, 3 * (rate.handler_seconds or 0.0))
        fade = math.exp(-seconds / memory)
        rate = replace(
            rate,
            settled=rate.settled * fade + settled,
            worker_seconds=rate.worker_seconds * fade + seconds * (previous.ready + inputs.ready) / 2,
        )
    if settled:
        # Fades by events, not by time: an idle hour does not change how long a handler takes.
        fade = math.exp(-settled / (20 * concurrency))
        rate = replace(
            rate, handled=rate.handled * fade + settled, busy_seconds=rate.busy_seconds * fade + busy
        )
    return rate
