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

from headgate.streams.outcome import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from headgate.contract import BranchContract
    from headgate.streams.outcome import Outcome

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
LABELS = ("namespace", "pipeline", "branch")
FENCED = "fenced"
_NAMES: dict[str, str] = {Kind.RETRY: "retried", Kind.BACK: "handed_back"}


class Buckets:
    """A histogram's counts."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: Sequence[float]) -> None:
        """Counts observations. Those of a batch mostly fall into one bucket, which two looks tell."""
        if not seconds:
            return
        least = bisect_left(BOUNDS, min(seconds))
        if least == bisect_left(BOUNDS, max(seconds)):
            self.counts[least] += len(seconds)
        else:
            for each in seconds:
                self.counts[bisect_left(BOUNDS, each)] += 1
        self.total += sum(seconds)

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound and count of all at or below it, as the exposition format wants them."""
        rows: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            running += count
            rows.append(("+Inf" if bound == float("inf") else str(bound), running))
        return rows


class WorkerMetrics(Collector):
    """Counts what one worker settles; a Prometheus collector over it."""

    def __init__(self, contract: BranchContract, in_flight: Callable[[], int]) -> None:
        self._labels = (contract.namespace, contract.pipeline, contract.branch)
        self._in_flight = in_flight
        self.outcomes = dict.fromkeys((*(kind.value for kind in Kind), FENCED), 0)
        self.handler = Buckets()
        self.queue = Buckets()
        self.end_to_end = Buckets()

    def count(self, outcomes: Sequence[Outcome], counted: bool) -> None:
        """Counts a settled batch; `counted` is False for one that was fenced off."""
        if not counted:
            self.outcomes[FENCED] += len(outcomes)
            return
        now_ms = time.time() * 1000
        for kind, count in Counter([outcome.kind for outcome in outcomes]).items():
            self.outcomes[kind] += count
        outcomes = [outcome for outcome in outcomes if outcome.kind is not Kind.BACK]
        events = [outcome.delivery.event for outcome in outcomes]
        busy = [outcome.busy_us / 1e6 for outcome in outcomes]
        # Clocks of two machines may differ: an event from the future took no time.
        since = [max(0.0, (now_ms - event.published_ms) / 1000) for event in events]
        self.handler.observe(busy)
        self.end_to_end.observe(since)
        self.queue.observe(
            [
                max(0.0, whole - part)
                for whole, part, event in zip(since, busy, events, strict=True)
                if event.attempt == 1
            ]
        )

    def registry(self) -> CollectorRegistry:
        """A registry of this worker's metrics only."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """The exposition."""
        events = CounterMetricFamily(
            "headgate_worker_events", "Deliveries by what became of them", labels=(*LABELS, "outcome")
        )
        for outcome, count in self.outcomes.items():
            events.add_metric((*self._labels, _NAMES.get(outcome, outcome)), count)
        yield events
        for name, text, buckets in (
            ("handler", "Time in the handler", self.handler),
            ("queue", "Time from publish to the first attempt at handling", self.queue),
            ("end_to_end", "Time from publish to settled", self.end_to_end),
        ):
            family = HistogramMetricFamily(f"headgate_worker_{name}_seconds", text, labels=LABELS)
            family.add_metric(self._labels, buckets.cumulative(), buckets.total)
            yield family
        gauge = GaugeMetricFamily("headgate_worker_in_flight", "Events read and not settled", labels=LABELS)
        gauge.add_metric(self._labels, self._in_flight())
        yield gauge
