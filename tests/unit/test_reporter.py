from __future__ import annotations

from typing import Any

import pytest

from headgate.streams import BranchMeasurement, PipelineMeasurement
from headgate_operator.problem import Problem
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.reconcile import Findings
from headgate_operator.reporter import FIGURES_SECONDS, LOOK_SECONDS, Reporter
from headgate_operator.substrates import Workers
from unit.pipelines import manifest, pipeline

FINDINGS = Findings(1, pipeline())


class Api:
    """Stands for the API server's status subresource, and for the recorder."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.told: list[str] = []

    async def patch(self, *where: Any, **_: Any) -> None:
        self.written.append(where[-1]["status"])

    async def record(self, _: Any, notice: Any) -> None:
        self.told.append(notice.reason)


def reading(backlog=0, workers=0):
    found = BranchMeasurement(undelivered=backlog)
    branch = BranchReading(
        name="pack",
        measurement=found,
        workers=Workers(workers, workers, workers),
        replicas=workers,
        delayed=frozenset(),
        settled_per_second=0,
    )
    return PipelineReading(
        pipeline=pipeline(),
        measurement=PipelineMeasurement(published=7, branches={"pack": found}),
        branches={"pack": branch},
        level="",
        published_per_second=0,
    )


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def reporter(api, clock):
    return Reporter(api, api, clock=lambda: clock[0])


async def test_figures_are_written_every_ten_seconds_at_most(reporter, api, clock):
    for second in range(25):
        clock[0] = 1000.0 + second
        await reporter.report(manifest(), FINDINGS, reading(backlog=second))
    assert [status["backlog"] for status in api.written] == [0, 10, 20]
    assert FIGURES_SECONDS == 10


async def test_the_last_figures_are_written_although_nothing_changes_any_more(reporter, api, clock):
    await reporter.report(manifest(), FINDINGS, reading())
    last = reading(backlog=5)
    for second in range(1, 12):
        clock[0] = 1000.0 + second
        await reporter.report(manifest(), FINDINGS, last)
    assert [status["backlog"] for status in api.written] == [0, 5]


async def test_a_transition_is_written_at_once_with_its_event(reporter, api, clock):
    await reporter.report(manifest(), FINDINGS, reading())
    away = Findings(1, pipeline(), redis=Problem("ServerUnavailable", "no answer"))
    clock[0] += 0.1
    await reporter.report(manifest(), away, reading())
    assert len(api.written) == 2
    assert "RedisUnreachable" in api.told


async def test_what_did_not_change_is_not_written_however_long(reporter, api, clock):
    same = reading()
    for _ in range(5):
        await reporter.report(manifest(), FINDINGS, same)
        clock[0] += LOOK_SECONDS + 1
    assert len(api.written) == 1


async def test_the_first_look_of_a_new_leader_overwrites_nothing(reporter, api):
    await reporter.report(manifest(), FINDINGS, reading(backlog=3))
    stored = manifest() | {"status": api.written[0]}
    successor = Reporter(api, api)
    await successor.report(stored, FINDINGS, None)
    await successor.report(stored, FINDINGS, reading(backlog=3))
    assert len(api.written) == 1
