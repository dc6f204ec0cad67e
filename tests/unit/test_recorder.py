from __future__ import annotations

from typing import Any

import pytest

from headgate_operator.cluster import NotFoundError
from headgate_operator.events import Notice, Severity, Subject
from headgate_operator.recorder import BURST, REFILL_SECONDS, SERIES_SECONDS, Recorder

ORDERS = Subject("shop", "orders", "u-1")
SCALED = Notice(Severity.NORMAL, "ScaledUp", "branch pack: 0 -> 1 workers", "Scale")
LOST = Notice(Severity.WARNING, "RedisUnreachable", "no answer")


class Events:
    """Stands for the API server's events; test_status_on_api_server.py writes to a real one."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.series: list[tuple[str, int]] = []
        self.expired = False

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.made.append(manifest)
        return manifest

    async def patch(self, *where: Any) -> None:
        *_, name, change = where
        if self.expired:
            raise NotFoundError(404, "NotFound", "the event is gone")
        self.series.append((name, change["series"]["count"]))


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def recorder(events, clock):
    return Recorder(events, "operator-1", clock=lambda: clock[0])


async def test_the_same_again_counts_up_the_event_that_is_there(recorder, events):
    for _ in range(3):
        await recorder.record(ORDERS, LOST)
    assert len(events.made) == 1
    name = events.made[0]["metadata"]["name"]
    assert events.series == [(name, 2), (name, 3)]


async def test_another_note_reason_or_pipeline_is_another_event(recorder, events):
    await recorder.record(ORDERS, LOST)
    await recorder.record(ORDERS, Notice(Severity.WARNING, "RedisUnreachable", "refused"))
    await recorder.record(Subject("shop", "orders", "u-2"), LOST)
    assert len(events.made) == 3
    assert events.series == []


async def test_after_a_while_it_is_a_new_event(recorder, events, clock):
    await recorder.record(ORDERS, LOST)
    clock[0] += SERIES_SECONDS + 1
    await recorder.record(ORDERS, LOST)
    assert len(events.made) == 2


async def test_an_event_that_expired_is_written_anew(recorder, events):
    await recorder.record(ORDERS, LOST)
    events.expired = True
    await recorder.record(ORDERS, LOST)
    assert len(events.made) == 2


async def test_chatter_of_one_pipeline_is_held_to_a_budget_and_warnings_are_not(recorder, events, clock):
    for number in range(BURST + 5):
        await recorder.record(ORDERS, Notice(Severity.NORMAL, "ScaledUp", f"to {number}"))
    assert len(events.made) == BURST
    await recorder.record(ORDERS, LOST)
    await recorder.record(Subject("shop", "other", "u-2"), SCALED)
    assert len(events.made) == BURST + 2
    clock[0] += REFILL_SECONDS
    await recorder.record(ORDERS, SCALED)
    assert len(events.made) == BURST + 3
