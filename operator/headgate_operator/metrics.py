"""Prometheus metrics of all pipelines, made from the pilot's last readings whenever they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headgate_operator.api import GateState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from headgate.streams import BranchMeasurement
    from headgate_operator.readings import BranchReading, PipelineReading

_PIPELINE = ("namespace", "pipeline")
_BRANCH = (*_PIPELINE, "branch")
_GATES = {GateState.OPEN: 0, GateState.DELAYED: 1, GateState.CLOSED: 2}
_COUNTERS: tuple[tuple[str, str, Callable[[BranchMeasurement], int]], ...] = (
    ("retried", "Attempts that failed and were retried.", lambda found: found.retried),
    (
        "expired",
        "Dead letters of events whose deadline passed while a level delayed them.",
        lambda found: found.expired,
    ),
    ("redriven", "Dead letters that were tried again.", lambda found: found.redriven),
    (
        "dead_letters_dropped",
        "Dead letters, the oldest, that went because there were too many.",
        lambda found: found.dead_dropped,
    ),
    (
        "unread_trimmed",
        "Events that the source's retention trimmed before the branch had settled them.",
        lambda found: found.unread_trimmed,
    ),
)


class ReadingsCollector(Collector):
    """A Collector over `readings`. What is unknown has no sample: a gap in a graph, not a zero."""

    def __init__(self, readings: Callable[[], Iterable[PipelineReading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        readings = list(self._readings())
        yield from _pipeline_metrics(readings)
        yield from _branch_metrics(
            [
                (_labels(reading, branch.name), branch)
                for reading in readings
                for branch in reading.branches.values()
            ]
        )


def _pipeline_metrics(readings: list[PipelineReading]) -> Iterator[Metric]:
    published = CounterMetricFamily("headgate_pipeline_published", "Events published.", labels=_PIPELINE)
    joined = CounterMetricFamily(
        "headgate_pipeline_joined",
        "Final records of the join: complete, or partial: a branch failed, or is missing after the time-out.",
        labels=(*_PIPELINE, "completeness"),
    )
    level = GaugeMetricFamily(
        "headgate_pipeline_level",
        "Backpressure level in force, counted from 1 in the manifest's order; 0 is none. The highest of any branch,"
        " each counted in its own backpressure.levels where it has them.",
        labels=_PIPELINE,
    )
    outbox = GaugeMetricFamily(
        "headgate_pipeline_outbox_entries",
        "Events that handlers or the join emitted and that are not in their pipeline yet.",
        labels=_PIPELINE,
    )
    for reading in readings:
        names = _labels(reading)
        level.add_metric(names, max((branch.level for branch in reading.branches.values()), default=0))
        if (found := reading.measurement) is not None:
            published.add_metric(names, found.published)
            outbox.add_metric(names, found.outbox)
            joined.add_metric((*names, "complete"), found.joined)
            joined.add_metric((*names, "partial"), found.partial)
    yield from (published, joined, outbox, level)


def _branch_metrics(branches: list[tuple[tuple[str, ...], BranchReading]]) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: Callable[[BranchReading], float | None]) -> Metric:
        family = GaugeMetricFamily(f"headgate_branch_{name}", text, labels=_BRANCH)
        for names, branch in branches:
            if (figure := value(branch)) is not None:
                family.add_metric(names, figure)
        return family

    yield gauge(
        "backlog_events", "Events not settled: undelivered, pending and delayed.", lambda b: b.backlog
    )
    yield gauge("lag_events", "Events not delivered yet.", _measured(lambda m: m.undelivered))
    yield gauge(
        "pending_events",
        "Events delivered and not settled.",
        _measured(lambda m: m.pending),
    )
    yield gauge("delayed_events", "Events that wait for a retry.", _measured(lambda m: m.delayed))
    yield gauge("age_seconds", "Age of the oldest event that is not settled.", lambda b: b.age_seconds)
    yield gauge(
        "max_age_seconds",
        "Age that no event of the branch should exceed: scale.maxAgeSeconds, where the manifest has it.",
        lambda b: b.max_age_seconds,
    )
    yield gauge(
        "arrival_events_per_second",
        "Events published a second, as the branch sees them.",
        _measured_branch(lambda b: b.arrival_per_second),
    )
    yield gauge(
        "settle_events_per_second",
        "Events settled a second.",
        _measured_branch(lambda b: b.settled_per_second),
    )
    yield gauge(
        "backlog_trend_events_per_second",
        "Growth of the backlog a second: what arrives less what is settled.",
        _measured_branch(lambda b: b.arrival_per_second - b.settled_per_second),
    )
    yield gauge(
        "dead_letters",
        "Events in the dead-letter stream.",
        _measured(lambda m: m.dead_letters),
    )
    yield gauge("replicas_desired", "Workers the pilot asks for.", lambda b: b.replicas)
    yield gauge("replicas_ready", "Workers that take events.", lambda b: b.workers.ready)
    yield gauge(
        "refused_lanes",
        "Lanes whose events publishers are refused because the branch is at a level.",
        lambda b: len(b.rejected),
    )
    yield gauge("gate", "Whether events wait: 0 open, 1 delayed, 2 closed.", lambda b: _GATES[b.gate])
    yield from _branch_counters(
        [(names, b.measurement) for names, b in branches if b.measurement is not None]
    )


def _branch_counters(branches: list[tuple[tuple[str, ...], BranchMeasurement]]) -> Iterator[Metric]:
    settled = CounterMetricFamily(
        "headgate_branch_settled", "Events with a final outcome.", labels=(*_BRANCH, "outcome")
    )
    for names, found in branches:
        settled.add_metric((*names, "done"), found.done)
        settled.add_metric((*names, "dead"), found.dead)
        settled.add_metric((*names, "filtered"), found.filtered)
    yield settled
    for name, text, figure in _COUNTERS:
        family = CounterMetricFamily(f"headgate_branch_{name}", text, labels=_BRANCH)
        for names, found in branches:
            family.add_metric(names, figure(found))
        yield family


def _measured(
    figure: Callable[[BranchMeasurement], float | None],
) -> Callable[[BranchReading], float | None]:
    return lambda branch: None if branch.measurement is None else figure(branch.measurement)


def _measured_branch(figure: Callable[[BranchReading], float]) -> Callable[[BranchReading], float | None]:
    return lambda branch: None if branch.measurement is None else figure(branch)


def _labels(reading: PipelineReading, *more: str) -> tuple[str, ...]:
    return (reading.pipeline.namespace, reading.pipeline.name, *more)
