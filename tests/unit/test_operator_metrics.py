from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from headgate.event import Lane
from headgate.streams import BranchMeasurement, Closed, LaneMeasurement, PipelineMeasurement
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.substrates import Workers
from unit.pilots import World
from unit.pipelines import pipeline

LEVELS = {"levels": [{"name": "Delay", "lag": 10, "releaseLag": 5, "delay": ["Low"]}]}
NAMES = {"namespace": "shop", "pipeline": "orders"}
PACK = NAMES | {"branch": "pack"}


OWN = {
    "levels": [
        {"name": "Slow", "lag": 10, "releaseLag": 1, "delay": ["Normal"]},
        {"name": "Delay", "lag": 20, "releaseLag": 1, "delay": ["Normal", "Low"]},
    ]
}


def samples(measurement, closed=None):
    reading = PipelineReading(
        pipeline=pipeline(backpressure=LEVELS),
        measurement=measurement,
        branches={
            "pack": BranchReading(
                name="pack",
                measurement=measurement and measurement.branches["pack"],
                workers=Workers(desired=2, running=2, ready=1),
                replicas=3,
                delayed=frozenset({Lane.LOW}),
                rejected=frozenset({Lane.LOW}),
                level=1,
                settled_per_second=0,
                closed=closed,
            )
        },
        level="Delay",
        published_per_second=0,
    )
    return exposed(reading)


def exposed(reading):
    registry = CollectorRegistry()
    registry.register(ReadingsCollector(lambda: [reading]))
    text = generate_latest(registry).decode()
    families = text_string_to_metric_families(text)
    return {(each.name, *sorted(each.labels.items())): each.value for one in families for each in one.samples}


@pytest.fixture
def measured():
    branch = BranchMeasurement(
        undelivered=5,
        pending=2,
        delayed=1,
        dead_letters=4,
        age_ms=1500,
        done=10,
        dead=4,
        filtered=3,
        retried=6,
        redriven=8,
        expired=12,
        unread_trimmed=9,
        dead_dropped=11,
    )
    return samples(
        PipelineMeasurement(published=20, joined=7, partial=2, outbox=5, branches={"pack": branch})
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backlog_events", 8),
        ("lag_events", 5),
        ("pending_events", 2),
        ("delayed_events", 1),
        ("age_seconds", 1.5),
        ("dead_letters", 4),
        ("retried_total", 6),
        ("redriven_total", 8),
        ("expired_total", 12),
        ("refused_lanes", 1),
        ("unread_trimmed_total", 9),
        ("dead_letters_dropped_total", 11),
        ("replicas_desired", 3),
        ("replicas_ready", 1),
        ("gate", 1),
    ],
)
def test_a_branch_is_measured(measured, name, value):
    assert measured[(f"headgate_branch_{name}", *sorted(PACK.items()))] == value


def test_a_closed_branch_is_more_than_a_delayed_one():
    found = samples(None, Closed(reason="410 Gone", target="", at=""))
    assert found[("headgate_branch_gate", *sorted(PACK.items()))] == 2


def test_settled_events_are_counted_by_outcome(measured):
    for outcome, count in (("done", 10), ("dead", 4), ("filtered", 3)):
        labels = sorted((PACK | {"outcome": outcome}).items())
        assert measured[("headgate_branch_settled_total", *labels)] == count


def test_a_pipeline_is_measured(measured):
    assert measured[("headgate_pipeline_published_total", *sorted(NAMES.items()))] == 20
    assert measured[("headgate_pipeline_level", *sorted(NAMES.items()))] == 1
    assert measured[("headgate_pipeline_outbox_entries", *sorted(NAMES.items()))] == 5
    for completeness, count in (("complete", 7), ("partial", 2)):
        labels = sorted((NAMES | {"completeness": completeness}).items())
        assert measured[("headgate_pipeline_joined_total", *labels)] == count


@pytest.mark.parametrize("backpressure", [None, LEVELS], ids=["no list", "another list"])
def test_the_level_is_counted_in_the_list_of_the_branch_that_is_at_it(monkeypatch, backpressure):
    world = World(monkeypatch)
    given = {} if backpressure is None else {"backpressure": backpressure}
    world.pilot.add(pipeline({"name": "fast", "backpressure": OWN}, {"name": "slow"}, **given))
    flood = BranchMeasurement(
        lanes={Lane.HIGH: LaneMeasurement(undelivered=100), Lane.NORMAL: LaneMeasurement(undelivered=100)},
        undelivered=200,
    )
    world.found["shop"] = PipelineMeasurement(
        published=200, branches={"fast": flood, "slow": BranchMeasurement()}
    )
    for level in (1, 2):
        reading = world.tick()["shop", "orders"]
        assert reading.level == OWN["levels"][level - 1]["name"]
        assert exposed(reading)[("headgate_pipeline_level", *sorted(NAMES.items()))] == level


def test_the_age_that_events_may_get_is_told_where_the_manifest_says_one(monkeypatch):
    world = World(monkeypatch)
    world.pilot.add(pipeline({"name": "fast", "scale": {"maxAgeSeconds": 45}}, {"name": "slow"}))
    world.found["shop"] = None
    found = exposed(world.tick()["shop", "orders"])
    told = {key: value for key, value in found.items() if key[0] == "headgate_branch_max_age_seconds"}
    fast = NAMES | {"branch": "fast"}
    assert told == {("headgate_branch_max_age_seconds", *sorted(fast.items())): 45}


def test_what_is_unknown_is_a_gap_and_not_a_zero():
    names = {name for name, *_ in samples(None)}
    assert names == {
        "headgate_pipeline_level",
        "headgate_branch_replicas_desired",
        "headgate_branch_replicas_ready",
        "headgate_branch_gate",
        "headgate_branch_refused_lanes",
    }
