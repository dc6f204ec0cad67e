"""A worker's own metrics.

Histograms count a batch at a time: a client-library observe an event would cost more than the event's whole settle.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from headgate.handlers.breaker import State
from headgate.streams.outcome import DONE, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.streams.outcome import Outcome

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LABELS = ("namespace", "pipeline", "branch")
FENCED = "fenced"
_NAMES: dict[str, str] = {Kind.RETRY: "retried", Kind.BACK: "handed_back", Kind.PARK: "parked"}
_HANDLED = frozenset((Kind.DONE, Kind.RETRY, Kind.DEAD))
_BREAKER = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class Buckets:
    """A histogram's counts, by the upper `bounds` of its buckets."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, values: Sequence[float], unit: float = 1) -> None:
        """Counts observations, given in `unit`s; what is less than none counts as none.

        Those of a batch mostly fall into one bucket, which two looks tell.
        """
        if not values:
            return
        bounds, smallest = self.bounds, min(values)
        if smallest < 0:
            # Clocks of two machines may differ: an event from the future took no time.
            values = [max(0, each) for each in values]
            smallest = 0
        least = bisect_left(bounds, smallest * unit)
        if least == bisect_left(bounds, max(values) * unit):
            self.counts[least] += len(values)
        else:
            for each in values:
                self.counts[bisect_left(bounds, each * unit)] += 1
        self.total += sum(values) * unit

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound and count of all at or below it, as the exposition format wants them."""
        rows: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            rows.append(("+Inf" if bound == float("inf") else str(float(bound)), running))
        return rows


class WorkerMetrics(Collector):
    """Counts what one worker does; a Prometheus collector over it, and over what its handler says of its target."""

    def __init__(
        self, contract: BranchContract, in_flight: Callable[[], int], handler: Handler | None = None
    ) -> None:
        self._labels = (contract.namespace, contract.pipeline, contract.branch)
        self._in_flight = in_flight
        self._handler = handler
        self.claimed = 0
        """Events taken over from workers that died."""
        self.leases_lost = 0
        self.server_failures = 0
        """Reads and heartbeats that the server did not answer, or refused for now."""
        self.outboxed = 0
        """Effects on other partitions and pipelines, left in the outbox."""
        self.batches = Buckets(BATCH_BOUNDS)
        self.outcomes = dict.fromkeys((*(kind.value for kind in Kind), FENCED), 0)
        self.handler = Buckets()
        self.queue = Buckets()
        self.end_to_end = Buckets()

    def count(self, outcomes: Sequence[Outcome], counted: bool) -> None:
        """Counts a settled batch; `counted` is False for one that was fenced off."""
        if not counted:
            self.outcomes[FENCED] += len(outcomes)
            return
        self.batches.observe([len(outcomes)])
        now_us = int(time.time() * 1e6)
        kinds = [outcome.kind for outcome in outcomes]
        if kinds.count(DONE) == len(kinds):
            self.outcomes[DONE] += len(kinds)
        else:
            for kind, count in Counter(kinds).items():
                self.outcomes[kind] += count
            outcomes = [outcome for outcome in outcomes if outcome.kind in _HANDLED]
        events = [outcome.delivery.event for outcome in outcomes]
        busy_us = [outcome.busy_us for outcome in outcomes]
        since_us = [now_us - event.published_ms * 1000 for event in events]
        self.handler.observe(busy_us, 1e-6)
        self.end_to_end.observe(since_us, 1e-6)
        waited_us = [
            whole - part
            for whole, part, event in zip(since_us, busy_us, events, strict=True)
            if event.attempt == 1
        ]
        self.queue.observe(waited_us, 1e-6)

    def registry(self) -> CollectorRegistry:
        """A registry of this worker's metrics only."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """The exposition."""
        kinds = ", ".join(_NAMES.get(outcome, outcome) for outcome in self.outcomes)
        events = CounterMetricFamily(
            "headgate_worker_events",
            f"Deliveries by what became of them: {kinds}",
            labels=(*LABELS, "outcome"),
            unit="events",
        )
        for outcome, count in self.outcomes.items():
            events.add_metric((*self._labels, _NAMES.get(outcome, outcome)), count)
        yield events
        for name, text, buckets in (
            ("handler_seconds", "Time in the handler", self.handler),
            ("queue_seconds", "Time from publish to the first attempt at handling", self.queue),
            ("end_to_end_seconds", "Time from publish to settled", self.end_to_end),
            ("settle_batch_events", "Events settled together, by one script", self.batches),
        ):
            unit = name.rpartition("_")[2]
            family = HistogramMetricFamily(f"headgate_worker_{name}", text, labels=LABELS, unit=unit)
            family.add_metric(self._labels, buckets.cumulative(), buckets.total)
            yield family
        for name, text, counted in (
            ("claimed_events", "Events taken over from workers that died", self.claimed),
            (
                "outboxed_effects",
                "Effects on other partitions and pipelines, left for the relay",
                self.outboxed,
            ),
            (
                "lost_leases",
                "Leases this worker lost: it was silent for too long, or groups went",
                self.leases_lost,
            ),
            (
                "server_failures",
                "Reads and heartbeats the server left unanswered or refused",
                self.server_failures,
            ),
        ):
            counter = CounterMetricFamily(f"headgate_worker_{name}", text, labels=LABELS)
            counter.add_metric(self._labels, counted)
            yield counter
        pause = 0.0 if self._handler is None else max(0.0, self._handler.paused_until - time.monotonic())
        state = State.CLOSED if self._handler is None else self._handler.breaker
        for name, text, value in (
            ("in_flight_events", "Events read and not settled", self._in_flight()),
            ("pause_seconds", "Until the target of an http or container handler may be called again", pause),
            (
                "breaker",
                "Circuit breaker of the target: 0 closed, 1 half-open (a probe is under way), 2 open",
                _BREAKER[state],
            ),
        ):
            gauge = GaugeMetricFamily(f"headgate_worker_{name}", text, labels=LABELS)
            gauge.add_metric(self._labels, value)
            yield gauge
