"""A worker's metrics: every format a scraper may ask for, and what counts as what."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from headgate.contract import BranchContract
from headgate.event import Event
from headgate.handlers.breaker import State
from headgate.handlers.python import LoopHandler
from headgate.streams.outcome import Delivery, Kind, Outcome
from headgate.worker.endpoints import serve
from headgate.worker.metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = BranchContract(namespace="test", pipeline="canal", branch="a", function="m:f")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
UNITS = ("_seconds", "_events", "_effects", "_failures", "_leases", "_breaker")


class Opened(LoopHandler):
    """As an http handler is whose target failed again and again."""

    breaker = State.OPEN


def outcome(kind: Kind, busy_us: int = 0, age_seconds: float = 0) -> Outcome:
    published = int((time.time() - age_seconds) * 1000)
    event = Event(id="i", body=b"1", published_ms=published)
    return Outcome(Delivery(event, 2, b"1-0", "w.x", 0.0), kind, busy_us=busy_us)


@pytest.fixture
def metrics() -> WorkerMetrics:
    handler = Opened(asyncio.sleep)
    handler.paused_until = time.monotonic() + 100
    made = WorkerMetrics(CONTRACT, lambda: 7, handler)
    made.count([outcome(kind) for kind in Kind], counted=True)
    made.count([outcome(Kind.DONE)] * 40, counted=True)
    made.count([outcome(Kind.DONE)] * 3, counted=False)
    made.claimed, made.leases_lost, made.server_failures, made.outboxed = 4, 5, 6, 8
    return made


@pytest.fixture
def url(metrics: WorkerMetrics) -> Iterator[str]:
    health: Any = SimpleNamespace(alive=lambda: (True, ""), ready=lambda: (True, ""))
    server = serve(metrics, health, 0)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()


def get(url: str, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 - our own server's
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.headers["Content-Type"], answer.read().decode()


def samples(families: Any) -> dict[tuple[str, str], float]:
    """Values by name and the label that is not the branch's."""
    return {
        (sample.name, sample.labels.get("outcome") or sample.labels.get("le", "")): sample.value
        for family in families
        for sample in family.samples
        if (sample.labels["namespace"], sample.labels["pipeline"], sample.labels["branch"])
        == ("test", "canal", "a")
    }


@pytest.mark.parametrize(
    ("accept", "kind", "read"),
    [
        (OPENMETRICS, "application/openmetrics-text", read_openmetrics),
        ("text/plain;version=0.0.4", "text/plain", read_text),
        ("*/*", "text/plain", read_text),
    ],
)
def test_every_format_is_read_by_its_own_parser_and_says_the_same(
    url: str, accept: str, kind: str, read: Any
) -> None:
    content_type, text = get(url, accept)
    assert content_type.startswith(kind)
    found = samples(read(text))
    names = {"done": 41, "retried": 1, "dead": 1, "filtered": 1, "handed_back": 1, "parked": 1, "fenced": 3}
    assert {name: found["headgate_worker_events_total", name] for name in names} == names
    for name, value in (
        ("claimed_events_total", 4),
        ("lost_leases_total", 5),
        ("server_failures_total", 6),
        ("outboxed_effects_total", 8),
        ("in_flight_events", 7),
        ("breaker", 2),
    ):
        assert found[f"headgate_worker_{name}", ""] == value
    assert 90 < found["headgate_worker_pause_seconds", ""] <= 100
    assert found["headgate_worker_settle_batch_events_bucket", "10.0"] == 1
    assert found["headgate_worker_settle_batch_events_bucket", "50.0"] == 2
    assert found["headgate_worker_settle_batch_events_sum", ""] == 40 + len(Kind)


def test_every_name_says_its_unit(metrics: WorkerMetrics) -> None:
    for family in metrics.collect():
        assert family.name.endswith(UNITS), family.name


def test_only_what_a_handler_was_given_counts_as_handled() -> None:
    metrics = WorkerMetrics(CONTRACT, lambda: 0)
    metrics.count([outcome(kind, busy_us=2_000_000, age_seconds=10) for kind in Kind], counted=True)
    found = samples(metrics.collect())
    for name, sums in (("handler", 6), ("end_to_end", 30), ("queue", 24)):
        assert found[f"headgate_worker_{name}_seconds_bucket", "+Inf"] == 3
        assert found[f"headgate_worker_{name}_seconds_sum", ""] == pytest.approx(sums, abs=1)
