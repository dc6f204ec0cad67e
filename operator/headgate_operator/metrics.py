"""Prometheus metrics of all pipelines, made from the pilot's last readings whenever they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from headgate.streams import BranchMeasurement
    from headgate_operator.readings import BranchReading, PipelineReading

_PIPELINE = ("namespace", "pipeline")
_BRANCH = (*_PIPELINE, "branch")


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
        "Backpressure level in force, counted from 1 in the manifest's order; 0 is none.",
        labels=_PIPELINE,
    )
    for reading in readings:
        names = _labels(reading)
        level.add_metric(names, _level(reading))
        if (found := reading.measurement) is not None:
            published.add_metric(names, found.published)
            joined.add_metric((*names, "complete"), found.joined)
            joined.add_metric((*names, "partial"), found.partial)
    yield from (published, joined, level)


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
        "dead_letters",
        "Events in the dead-letter stream.",
        _measured(lambda m: m.dead_letters),
    )
    yield gauge("replicas_desired", "Workers the pilot asks for.", lambda b: b.replicas)
    yield gauge("replicas_ready", "Workers that take events.", lambda b: b.workers.ready)
    yield gauge("gate", "Whether lanes wait: 0 open, 1 delayed.", lambda b: 1 if b.delayed else 0)

    settled = CounterMetricFamily(
        "headgate_branch_settled", "Events with a final outcome.", labels=(*_BRANCH, "outcome")
    )
    retried = CounterMetricFamily(
        "headgate_branch_retried", "Attempts that failed and were retried.", labels=_BRANCH
    )
    for names, branch in branches:
        if (found := branch.measurement) is not None:
            settled.add_metric((*names, "done"), found.done)
            settled.add_metric((*names, "dead"), found.dead)
            retried.add_metric(names, found.retried)
    yield from (settled, retried)


def _measured(
    figure: Callable[[BranchMeasurement], float | None],
) -> Callable[[BranchReading], float | None]:
    return lambda branch: None if branch.measurement is None else figure(branch.measurement)


def _labels(reading: PipelineReading, *more: str) -> tuple[str, ...]:
    return (reading.pipeline.namespace, reading.pipeline.name, *more)


def _level(reading: PipelineReading) -> int:
    spec = reading.pipeline.spec.backpressure
    names = [level.name for level in spec.levels] if spec is not None else []
    return names.index(reading.level) + 1 if reading.level in names else 0
