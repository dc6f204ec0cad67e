"""The operator's metrics about itself: passes, queue, ticks, decisions, leadership, build."""

from __future__ import annotations

import time
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.registry import CollectorRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class Pass:
    """One reconcile under way; `clean` says afterwards that nothing stood in its way."""

    clean = False


class Vitals:
    """What one operator process counts of its own work; a Prometheus collector."""

    def __init__(self) -> None:
        self._own = own = CollectorRegistry()
        self._reconciles = Counter(
            "headgate_operator_reconciles",
            "Passes over a pipeline by outcome: clean, problem (something stands in the way, see its conditions), error"
            " (a fault of the operator's or the API server's).",
            ["outcome"],
            registry=own,
        )
        self._reconcile_seconds = Histogram(
            "headgate_operator_reconcile_seconds", "Time of one pass.", buckets=_SECONDS, registry=own
        )
        self._queue = Gauge(
            "headgate_operator_queue_pipelines",
            "Pipelines that are due a pass and have not had it.",
            registry=own,
        )
        self._tick_seconds = Histogram(
            "headgate_pilot_tick_seconds",
            "Time of one tick of the pilot: measure, decide, apply.",
            buckets=_SECONDS,
            registry=own,
        )
        self._tick_lateness = Histogram(
            "headgate_pilot_tick_lateness_seconds",
            "How much later than a second after the last a tick began.",
            buckets=_SECONDS,
            registry=own,
        )
        self._decisions = Counter(
            "headgate_pilot_decisions",
            "Decisions about a branch's workers that differ from the one before, by reason.",
            ["reason"],
            registry=own,
        )
        self._leader = Gauge("headgate_operator_leader", "Whether this process leads: 1, or 0.", registry=own)
        Info("headgate_operator_build", "The version that runs.", registry=own).info(
            {"version": version("headgate")}
        )
        for outcome in ("clean", "problem", "error"):
            self._reconciles.labels(outcome)

    @contextmanager
    def reconciling(self) -> Iterator[Pass]:
        """Counts and times one pass; an exception makes it an error and goes on."""
        under_way, started = Pass(), time.perf_counter()
        outcome = "error"
        try:
            yield under_way
            outcome = "clean" if under_way.clean else "problem"
        finally:
            self._reconciles.labels(outcome).inc()
            self._reconcile_seconds.observe(time.perf_counter() - started)

    def ticked(self, seconds: float, lateness_seconds: float) -> None:
        """One tick of the pilot is over."""
        self._tick_seconds.observe(seconds)
        self._tick_lateness.observe(max(0.0, lateness_seconds))

    def decided(self, reason: str) -> None:
        """A branch's decision differs from the one before."""
        self._decisions.labels(reason).inc()

    def watch(self, *, queue: Callable[[], int], leads: Callable[[], bool]) -> None:
        """Where to ask for what is a state and not a count."""
        self._queue.set_function(queue)
        self._leader.set_function(lambda: float(leads()))

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        return self._own.collect()
