"""What counters say of a branch: how fast events arrive, and how fast one worker settles them.

Both are estimates that last: an outage, a counter that was reset, or an hour without events takes nothing away but
the interval it fell into.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_operator.autoscale.inputs import ScalerInputs

ARRIVAL_WINDOWS = (10.0, 20.0, 40.0, 60.0)
"""Seconds over which arrivals are averaged: the longest that the shorter ones do not contradict."""
BINS = 8  # of a window; the two with most and the two with least arrivals do not count
CONTRADICTION = 3.0  # standard errors between two windows' means beyond which the rate has changed
SHORTEST_SECONDS = 0.01  # an interval shorter than this says nothing of a rate: it is added to the next
LONGEST_SECONDS = 5.0  # nor is what came in an interval longer than this spread evenly over it
MARK_SECONDS = 0.9  # least time between two marks: ticks that a doorbell adds are not kept
MEMORY_SECONDS = 30.0  # how fast old measurements of a worker's rate fade (time constant), for short handlers
ENOUGH_EVENTS = 2  # times a worker's concurrency: fewer events may be the short ones, as those end first


@dataclass(frozen=True)
class Arrivals:
    """Readings of the counter of published events, and the rate they tell."""

    marks: tuple[tuple[float, int], ...] = ()
    """(time, events published until then), oldest first; the last is the newest reading."""
    per_second: float = 0.0

    def add(self, now: float, published: int) -> Arrivals:
        """With one more reading. A counter that fell was reset: nothing is known to have come in that interval."""
        marks = self.marks
        if marks and published < marks[-1][1]:
            fell = marks[-1][1] - published
            marks = tuple((at, count - fell) for at, count in marks)
        if len(marks) > 1 and marks[-1][0] - marks[-2][0] < MARK_SECONDS:
            marks = marks[:-1]
        if marks and now - marks[-1][0] > LONGEST_SECONDS:
            # Of a pipeline at rest the first event rings for this look: all of it has come just now.
            marks = (*marks, (now - 1.0, marks[-1][1]))
        since = now - ARRIVAL_WINDOWS[-1]
        first = next((at for at in range(len(marks) - 1) if marks[at + 1][0] > since), max(0, len(marks) - 1))
        marks = (*marks[first:], (now, published))
        return Arrivals(marks, _rate(marks))


def _rate(marks: tuple[tuple[float, int], ...]) -> float:
    """The interquartile mean over the longest window that no shorter one contradicts.

    It leaves a single burst to the backlog, where a mean would count those events a second time. Choosing the window:
    O. Lepski, On a problem of adaptive estimation in Gaussian white noise, 1990.
    """
    (first, low), (now, high) = marks[0], marks[-1]
    if high == low:
        return 0.0
    least, most, found = 0.0, math.inf, 0.0
    for window in ARRIVAL_WINDOWS:
        # Before the first reading nothing is known to have come; the shortest window makes do with that.
        if window > max(now - first, ARRIVAL_WINDOWS[0]):
            break
        mean, error = _interquartile(_bins(marks, now - window, window), window)
        if not least <= mean <= most:
            break
        found = mean
        least = max(least, mean - CONTRADICTION * error)
        most = min(most, mean + CONTRADICTION * error)
    return found


def _bins(marks: tuple[tuple[float, int], ...], start: float, seconds: float) -> list[float]:
    """Events of each of the window's equal parts; between two marks they are spread evenly."""
    edges = [start + seconds * at / BINS for at in range(1, BINS + 1)]
    counts: list[float] = []
    at = max(0, bisect.bisect_right(marks, start, key=lambda mark: mark[0]) - 1)
    last = _at(marks, at, start)
    for edge in edges:
        while at + 2 < len(marks) and marks[at + 1][0] < edge:
            at += 1
        value = _at(marks, at, edge)
        counts.append(value - last)
        last = value
    return counts


def _at(marks: tuple[tuple[float, int], ...], at: int, time: float) -> float:
    (start, low), (end, high) = marks[at], marks[min(at + 1, len(marks) - 1)]
    if end <= start:
        return low
    return low + (high - low) * min(max((time - start) / (end - start), 0.0), 1.0)


def _interquartile(counts: list[float], seconds: float) -> tuple[float, float]:
    """Events a second in the middle half of the parts, and its standard error, at least that of Poisson arrivals."""
    ordered = sorted(counts)[BINS // 4 : -(BINS // 4)]
    mean = sum(ordered) / len(ordered)
    spread = sum((count - mean) ** 2 for count in ordered) / len(ordered)
    error = math.sqrt(max(spread, mean, 1.0) / len(counts))
    return mean * BINS / seconds, error * BINS / seconds


@dataclass(frozen=True)
class WorkerRate:
    """What is known about one worker's speed: sums that fade together; their quotients are recent means."""

    settled: float = 0.0
    worker_seconds: float = 0.0
    """Only of intervals in which every worker had enough to do: idle time says nothing about speed."""
    seconds: float = 0.0
    """Of the same intervals."""
    handled: float = 0.0
    busy_seconds: float = 0.0
    grown: float = -math.inf
    """When there last were more workers that can work than before."""

    @property
    def handler_seconds(self) -> float | None:
        """Mean time of one event inside the handler, its failed attempts included; None before the first.

        What a filter drops is in no handler: a branch that settled nothing else yet has handled nothing.
        """
        return self.busy_seconds / self.handled if self.busy_seconds > 0 else None

    def per_second(self, concurrency: int) -> float | None:
        """Events one busy worker settles a second; None while nothing has been handled.

        Measured under saturation where there is enough of it, else what `concurrency` handlers side by side
        would do.
        """
        handler = self.handler_seconds
        if self.settled > 0 and self.seconds >= 2 * max(1.0, handler or 0.0):
            return self.settled / self.worker_seconds
        return concurrency / max(handler, 1e-6) if handler is not None else None

    def is_sure(self, concurrency: int) -> bool:
        """Whether enough events were settled for the mean to be one of long handlers too."""
        return self.handled >= ENOUGH_EVENTS * concurrency

    def add(self, previous: ScalerInputs | None, inputs: ScalerInputs, concurrency: int) -> WorkerRate:
        """With what happened between two moments; a counter that fell was reset, and that interval is left out."""
        if previous is None:
            return self._begun(inputs, concurrency)
        seconds, settled = inputs.now - previous.now, inputs.settled - previous.settled
        if seconds <= 0 or settled < 0 or inputs.published < previous.published:
            return self
        rate, enough = self, min(previous.ready, inputs.ready) * concurrency
        handler = rate.handler_seconds or 0.0
        if inputs.ready > previous.ready:
            rate = replace(rate, grown=inputs.now)
        # A new worker settles nothing for as long as a handler takes, which says nothing of its speed.
        at_work = previous.now - rate.grown >= 2 * handler
        if at_work and enough > 0 and min(previous.workable, inputs.workable) >= enough:
            # Long handlers settle in clumps: remember several of their durations, or a pause would look slow.
            memory = max(MEMORY_SECONDS, 5 * handler)
            fade, workers = math.exp(-seconds / memory), (previous.ready + inputs.ready) / 2
            rate = replace(
                rate,
                settled=rate.settled * fade + settled,
                worker_seconds=rate.worker_seconds * fade + seconds * workers,
                seconds=rate.seconds * fade + seconds,
            )
        if settled:
            # Fades by events, not by time: an idle hour does not change how long a handler takes.
            fade = math.exp(-settled / (20 * concurrency))
            busy = max(0.0, inputs.busy_seconds - previous.busy_seconds)
            # Nor do those that were dropped before the first was handled make its handler look quick.
            handled = 0.0 if busy > 0 and handler == 0.0 else rate.handled * fade
            rate = replace(rate, handled=handled + settled, busy_seconds=rate.busy_seconds * fade + busy)
        return rate

    def _begun(self, inputs: ScalerInputs, concurrency: int) -> WorkerRate:
        """The first look: the counters know how long handlers took so far, an operator that restarted does not."""
        if self.handled or inputs.settled <= 0 or inputs.busy_seconds <= 0:
            return self
        handled = min(float(inputs.settled), ENOUGH_EVENTS * concurrency)
        return replace(self, handled=handled, busy_seconds=handled * inputs.busy_seconds / inputs.settled)
