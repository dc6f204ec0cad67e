"""How many workers a branch should have: a pure decision from one second's figures and what was seen before.

What is needed now (see `autoscale.need`), clamped to `min..max`: upward at once. Downward, workers that a backlog
needed go once it is worked off and they have not been needed for as long as one takes to start; those that arrivals
need go when fewer have sufficed for `scaleDownAfterSeconds`, and never below what the mean rate of those seconds needs.
What is not known is never taken for zero: an unknown backlog holds what is there, and nothing goes to zero over
unsettled events, except a closed or paused branch, where workers could do nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headgate_operator.autoscale.need import Need, need
from headgate_operator.autoscale.rates import SHORTEST_SECONDS, Arrivals, WorkerRate
from headgate_operator.autoscale.starts import Starts
from headgate_operator.autoscale.window import Growth, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate_operator.autoscale.inputs import ScaleLimits, ScalerInputs

SURGE_SECONDS = 5.0  # least time for which workers of a backlog must have been superfluous
LONG_HANDLER_SECONDS = 10.0  # a third of a worker's time to drain: a mean handler that long may outlast it


@dataclass(frozen=True)
class ScalerState:
    """What a decision remembers for the next; kept as long as the branch, so the rate survives scale-to-zero."""

    rate: WorkerRate = field(default_factory=WorkerRate)
    arrivals: Arrivals = field(default_factory=Arrivals)
    starts: Starts = field(default_factory=Starts)
    previous: ScalerInputs | None = None
    targets: Window = field(default_factory=Window)
    """What was needed, of the last seconds."""
    steady: Window = field(default_factory=Window)
    """What arrivals needed, of the last `scaleDownAfterSeconds`; at least 1 while anything was unsettled."""
    lately: Growth = field(default_factory=Growth)
    """Events published in the last `scaleDownAfterSeconds`, bursts included."""
    guessed: bool = False
    """Whether targets are guesses from before one worker's rate was known."""

    @property
    def arrival_rate(self) -> float:
        """Events published a second, as far as they come steadily: a single burst is left out."""
        return self.arrivals.per_second


@dataclass(frozen=True)
class Decision:
    """How many workers to ask for, and why: one CamelCase word for programs, one sentence for people."""

    state: ScalerState
    replicas: int
    reason: str
    sentence: str


def decide(state: ScalerState, inputs: ScalerInputs, limits: ScaleLimits) -> Decision:
    """The next state and the replicas to ask for: within `limits.min..limits.max`, or 0 while paused."""
    idle = _is_idle(state, inputs)
    state = _learn(state, inputs, limits)
    if inputs.paused:
        return _fixed(state, inputs, 0, "Paused", "paused")
    least = min(max(limits.min, inputs.scheduled_min), limits.max)
    if inputs.closed:
        return _fixed(state, inputs, least, "Closed", "the branch is closed, so the minimum is kept")
    held = min(max(inputs.current, least), limits.max)
    if inputs.backlog is None:
        if inputs.at_least and not held:
            why = f"the backlog is unknown, but at least {inputs.at_least} events are unsettled"
            return _fixed(state, inputs, 1, "Unknown", why)
        return _fixed(state, inputs, held, "Unknown", "the backlog is unknown, so they are held")
    needed = need(inputs, limits, state.arrivals, state.rate, state.starts.seconds)
    busy = 1 if inputs.backlog else 0
    target = min(max(_whole(needed.workers, limits, idle), busy, least), limits.max)
    steady = min(max(_whole(needed.arriving, limits, idle), busy, least), limits.max)
    state = _remember(state, inputs, limits, (target, steady), held)
    return _Choice(state, inputs, limits, needed, target, least).made()


def _fixed(state: ScalerState, inputs: ScalerInputs, replicas: int, reason: str, why: str) -> Decision:
    """A number that no rate has a say in; the windows start anew with it."""
    window = Window(((inputs.now, replicas),))
    state = replace(state, targets=window, steady=window, guessed=False)
    return Decision(state, replicas, reason, f"{counted(replicas)}: {why}")


def _is_idle(state: ScalerState, inputs: ScalerInputs) -> bool:
    """Whether nothing is left and nothing came since the last look: for what came before, the window keeps workers."""
    came = state.previous is None or inputs.published != state.previous.published
    return inputs.backlog == 0 and not (came and inputs.current)


def _whole(workers: float, limits: ScaleLimits, idle: bool) -> int:
    if idle and workers <= 1:
        return 0  # a mean over a minute is never quite nothing, and any part of a worker would be one
    return math.ceil(min(workers, limits.max))  # a rate that faded to almost nothing makes it infinite


def _learn(state: ScalerState, inputs: ScalerInputs, limits: ScaleLimits) -> ScalerState:
    """With what this moment says of rates and starts; an unknown backlog says nothing of rates."""
    asked = inputs.now if state.previous is None else min(state.previous.now, inputs.now)
    starts = state.starts.add(inputs, asked)
    if inputs.backlog is None:
        return replace(state, starts=starts)
    if state.previous is not None and 0 <= inputs.now - state.previous.now < SHORTEST_SECONDS:
        return replace(state, starts=starts)
    return replace(
        state,
        previous=inputs,
        starts=starts,
        rate=state.rate.add(state.previous, inputs, limits.concurrency),
        arrivals=state.arrivals.add(inputs.now, inputs.published),
        lately=state.lately.add(inputs.now, inputs.published, limits.scale_down_after_seconds),
    )


def _remember(
    state: ScalerState, inputs: ScalerInputs, limits: ScaleLimits, needs: tuple[int, int], held: int
) -> ScalerState:
    """With what is needed now, in all and for what arrives, in the windows."""
    # What runs at the first look (the operator restarted) counts too, or it would go at once.
    first = Window(((inputs.now, held),))
    targets, steady = state.targets if state.targets.values else first, state.steady
    steady = steady if steady.values else first
    known = state.rate.is_sure(limits.concurrency)
    if state.guessed and known:
        targets = steady = Window()
    window = limits.scale_down_after_seconds
    surge = min(window, max(SURGE_SECONDS, state.starts.seconds))
    return replace(
        state,
        targets=targets.add(inputs.now, needs[0], surge),
        steady=steady.add(inputs.now, needs[1], window),
        guessed=not known,
    )


@dataclass(frozen=True)
class _Choice:
    """What to ask for, when everything is known: what is needed, or what keeps from it."""

    state: ScalerState
    inputs: ScalerInputs
    limits: ScaleLimits
    need: Need
    target: int
    least: int

    def made(self) -> Decision:
        """The decision."""
        if self.target > self.inputs.current:
            return self._up()
        kept = self._kept()
        if kept > self.target:
            return self._down(kept)
        return self._decided(self.target, *self._why())

    def _up(self) -> Decision:
        """Straight to the target, as far as crashes and steps let it be."""
        current = self.inputs.current
        careful = self.state.starts.careful(self.inputs.now, current)
        if careful is not None and max(careful, self.least) < self.target:
            why = f"{self.target} are needed, but workers do not stay up: no more until one does"
            return self._decided(max(careful, self.least), "SlowStart", why)
        step = self.limits.max_step
        if step is not None and max(current + step, self.least) < self.target:
            started = self.state.starts.is_over(self.inputs.now)
            why = f"{self.target} are needed, at most {step} are added at once"
            return self._decided(max(current + step if started else current, self.least), "Step", why)
        return self._decided(self.target, *self._why())

    def _kept(self) -> int:
        """Workers that are there and are not to go yet."""
        window, speed = (
            self.limits.scale_down_after_seconds,
            self.state.rate.per_second(self.limits.concurrency),
        )
        mean = self.state.lately.per_second(window) if window else 0.0
        rates = math.ceil(min(mean / speed, self.limits.max)) if speed else 0
        return min(
            max(self.state.targets.highest, self.state.steady.highest, rates),
            self.inputs.current,
            self.limits.max,
        )

    def _down(self, kept: int) -> Decision:
        window = f"{self.limits.scale_down_after_seconds:g} s"
        why = f"{counted(self.target)} would do now, but not for what arrived in the last {window}"
        return self._decided(kept, "Window", why)

    def _why(self) -> tuple[str, str]:
        target, inputs, limits = self.target, self.inputs, self.limits
        if target == limits.max and self.need.workers > limits.max:
            return "Maximum", f"scale.max; {_shown(self.need.workers)} would be needed {self.need.why}"
        if target == self.least > 0 and math.ceil(self.need.workers) < self.least:
            scheduled = inputs.scheduled_min > limits.min
            return ("Schedule", "scale.schedule") if scheduled else ("Minimum", "scale.min")
        if target == 0:
            return "Idle", "nothing waits"
        return "Steady" if target == inputs.current else self.need.reason, self.need.why

    def _decided(self, replicas: int, reason: str, why: str) -> Decision:
        holders = min(self.inputs.holders, self.inputs.current, self.limits.max)
        if replicas < holders and (self.state.rate.handler_seconds or 0.0) >= LONG_HANDLER_SECONDS:
            # A handler this long may outlast the time a worker has to drain: only idle ones are stopped.
            replicas, reason = holders, "Window"
            why = f"{counted(self.target)} would do now, but so many are in the middle of long events"
        return Decision(self.state, replicas, reason, f"{counted(replicas)}: {why} ({self._figures()})")

    def _figures(self) -> str:
        inputs = self.inputs
        parts = [f"{inputs.backlog} unsettled"]
        if inputs.deferred:
            parts.append(f"{inputs.deferred} of them not to be taken yet")
        if inputs.age_seconds >= 1:
            parts.append(f"the oldest {inputs.age_seconds:.0f} s old")
        parts.append(f"{_shown(self.state.arrival_rate)}/s arrive")
        # Told while it counts: an operator that has just started, and learnt nothing yet, says the same of rest.
        if self.need.workers > 0:
            parts += self._learnt()
        return ", ".join(parts)

    def _learnt(self) -> Iterator[str]:
        speed, start = self.state.rate.per_second(self.limits.concurrency), self.state.starts.seconds
        if speed is not None:
            yield f"a worker settles {_shown(speed)}/s"
        if start >= 1:
            yield f"and takes {start:.0f} s to start"


def counted(count: int) -> str:
    """So many workers, in words."""
    return f"{count} worker" if count == 1 else f"{count} workers"


def _shown(figure: float) -> str:
    """Three digits that matter, without an exponent."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"
