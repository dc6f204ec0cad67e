"""The log example: what a line counts as, what is exported of it, and that the dashboard asks for nothing else."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.core import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from headgate import PermanentError
from headgate.event import InvalidEventError
from headgate.schema import compile_schema
from headgate.testing import handle, handle_batch
from headgate_operator.validation import validate
from streams.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXAMPLE = Path(__file__).parents[2] / "examples" / "log-dashboard"
NOW = datetime(2026, 11, 21, 22, 40, 30, tzinfo=UTC)
NOW_MINUTE = int(NOW.timestamp() // 60)
DATA = ("time", "service", "level")


@dataclass(frozen=True)
class Example:
    """The example's modules, imported as a worker imports them."""

    logs: ModuleType
    load: ModuleType
    exporter: ModuleType


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    monkeypatch.syspath_prepend(EXAMPLE)
    names = ("logs", "load", "exporter")
    yield Example(*[importlib.import_module(name) for name in names])
    for name in names:
        del sys.modules[name]


def minute(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%MZ}"


def manifest() -> dict:
    return next(yaml.safe_load_all((EXAMPLE / "pipeline.yaml").read_text(encoding="utf-8")))


async def test_each_line_of_a_batch_counts_in_its_own_minute_and_in_the_total(example):
    now_ms = int(time.time()) // 60 * 60_000
    lines = [(now_ms - 60_001, "api", "error"), (now_ms - 1, "web", "info")]
    done = await handle_batch(example.logs.tally, [dict(zip(DATA, line, strict=True)) for line in lines])
    assert [each.counts for each in done] == [
        {"total api error": 1, f"{minute(now_ms - 120_000)} api error": 1},
        {"total web info": 1, f"{minute(now_ms - 60_000)} web info": 1},
    ]


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [
        (NOW_MINUTE * 60_000, "2026-11-21T22:40Z"),
        (NOW_MINUTE * 60_000 - 1, "2026-11-21T22:39Z"),
        ((NOW_MINUTE + 6) * 60_000 - 1, "2026-11-21T22:45Z"),
        ((NOW_MINUTE + 6) * 60_000, "astray"),
        ((NOW_MINUTE - 360) * 60_000, "2026-11-21T16:40Z"),
        ((NOW_MINUTE - 360) * 60_000 - 1, "astray"),
        (0, "astray"),
        (10**30, "astray"),
    ],
)
def test_a_line_counts_in_the_minute_it_was_written_or_as_astray(example, time_ms, expected):
    assert example.logs.minute(time_ms, NOW_MINUTE) == expected


@pytest.mark.parametrize("value", [4, None])
async def test_a_gauge_is_kept_under_its_key_and_ended_by_null(example, value):
    done = await handle(example.logs.latest, {"time": 1, "value": value}, key="web-7/queue_length")
    assert done.puts == {"web-7/queue_length": value and {"time": 1, "value": value}}


@pytest.mark.parametrize("key", [None, "web-7"])
async def test_a_gauge_without_a_name_is_given_up_with_what_to_do(example, key):
    with pytest.raises(PermanentError, match="publish with SOURCE/NAME as the key"):
        await handle(example.logs.latest, {"time": 1, "value": 4}, key=key)


def test_the_manifest_is_valid_and_takes_every_event_of_the_load(example):
    assert validate(manifest()) == []
    schema = compile_schema(manifest()["spec"]["source"]["schema"])
    for event in example.load.sample(200):
        schema.check(event.data)


@pytest.mark.parametrize(
    "data",
    [
        {"service": "web", "level": "info"},
        {"time": 1, "level": "info"},
        {"time": 1, "level": "info", "value": 4},
        {"time": 1, "service": "web", "level": "fatal"},
        {"time": 1, "service": "web two", "level": "info"},
        {"time": 1, "service": "web"},
        {"time": 1, "value": "4"},
    ],
)
def test_what_could_not_be_counted_is_refused_by_the_schema(data):
    with pytest.raises(InvalidEventError):
        compile_schema(manifest()["spec"]["source"]["schema"]).check(data)


def test_producers_publish_sequences_of_their_own_the_same_for_the_same_seed(example):
    first, again, other, later = (
        example.load.producer_events(seed, number, 20, end_ms)
        for seed, number, end_ms in (
            ("s", 1, 10**12),
            ("s", 1, 10**12),
            ("s", 2, 10**12),
            ("s", 1, 2 * 10**12),
        )
    )
    assert first == again
    assert len({event.id for event in (*first, *other, *later)}) == 60
    assert [event.data["time"] for event in first] == sorted(event.data["time"] for event in first)
    assert Counter("level" in event.data for event in first) == {True: 16, False: 4}
    assert {event.source for event in first} == {"producer-0001"}


def test_the_last_minutes_are_exported_and_older_ones_are_not(example):
    counts = {
        "2026-11-21T22:25Z web info": 1,
        "2026-11-21T22:26Z web info": 2,
        "2026-11-21T22:40Z web error": 3,
        "2026-11-21T22:41Z web info": 4,
        "astray web info": 5,
        "astray api info": 6,
        "total web info": 7,
    }
    assert series(example, counts) == {
        ("logs_events_per_minute", "info", "2026-11-21T22:26Z", "web"): 2,
        ("logs_events_per_minute", "error", "2026-11-21T22:40Z", "web"): 3,
        ("logs_events_per_minute", "info", "2026-11-21T22:41Z", "web"): 4,
        ("logs_events_astray_total",): 11,
        ("logs_events_total", "info", "web"): 7,
    }


def test_gauges_are_exported_while_they_speak(example):
    now_ms = int(NOW.timestamp() * 1000)
    values = {
        "web-7/queue_length": {"time": now_ms, "value": 4},
        "a/b/queue_length": {"time": now_ms - 899_999, "value": 0.5},
        "gone/queue_length": {"time": now_ms - 900_000, "value": 9},
    }
    assert series(example, {}, values) == {
        ("producer_gauge", "queue_length", "web-7"): 4,
        ("producer_gauge", "queue_length", "a/b"): 0.5,
        ("logs_events_astray_total",): 0,
    }


def test_every_metric_and_label_of_the_dashboard_is_exported(example):
    counts = {"2026-11-21T22:40Z web error": 1, "total web error": 1, "astray web error": 1}
    values = {"web-7/queue_length": {"time": int(NOW.timestamp() * 1000), "value": 4}}
    exported: dict[str, set[str]] = {}
    for metric in example.exporter.metrics(counts, values, 15, NOW):
        for sample in metric.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    asked = 0
    for expression, legend in panels():
        (metric,) = re.findall(r"\b(?:logs|producer)_\w+", expression)
        labels = re.findall(r"(\w+)=", expression) + re.findall(r"\{\{(\w+)\}\}", legend)
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels += group.split(", ")
        assert metric in exported, f"{expression}: {metric} is none of {sorted(exported)}"
        assert set(labels) <= exported[metric], expression
        asked += 1
    assert asked == 8


def test_a_server_that_is_not_reached_is_told_and_is_no_zero(example):
    url = f"redis://127.0.0.1:{free_port()}"
    server = example.exporter.serve(example.exporter.Sums(url, "default", 15), 0)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=60)
        with refused.value as answer:
            assert answer.code == 503
            assert url in answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()


def panels() -> list[tuple[str, str]]:
    dashboard = json.loads((EXAMPLE / "dashboard.json").read_text(encoding="utf-8"))
    return [
        (target["expr"], target["legendFormat"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def series(example: Example, counts: dict, values: dict | None = None) -> dict[tuple[str, ...], float]:
    """What Prometheus reads: values by metric and by the values of its labels, in the order of their names."""

    class Given(Collector):
        def collect(self):
            return example.exporter.metrics(counts, values or {}, 15, NOW)

    registry = CollectorRegistry()
    registry.register(Given())
    text = example.exporter.generate_latest(registry).decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
