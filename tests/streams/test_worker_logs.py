"""A worker's log: one object of JSON a line, each line about an event says which."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import BatchSettings, Executor
from headgate.event import NewEvent
from headgate.streams import Server
from streams.desk import QUICK, Desk, desk
from streams.workers import WorkerProcess, workers_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TRACED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FORMS: dict[str, dict[str, Any]] = {
    "async": {"function": "streams.trace_handlers:on_loop"},
    "threads": {"function": "streams.trace_handlers:plain"},
    "processes": {"function": "streams.trace_handlers:plain", "executor": Executor.PROCESSES},
}


@pytest.fixture
async def canal(valkey_url: str) -> AsyncIterator[Desk]:
    server = Server.connect(valkey_url)
    async with desk(server, partitions=2) as made:
        yield made
    await server.aclose()


def lines(worker: WorkerProcess) -> list[dict[str, Any]]:
    """Every line; one that is no JSON fails the test."""
    return [json.loads(line) for line in worker.log().splitlines()]


@pytest.mark.parametrize("form", FORMS)
async def test_what_a_handler_logs_says_which_event_it_is_about(
    canal: Desk, tmp_path: Path, form: str
) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(concurrency=2, **FORMS[form]))
        await canal.publish(
            NewEvent(id="traced", data={"do": "log"}, traceparent=TRACED, key="k"),
            *(NewEvent(id=f"e{n}", data={"do": "log"}) for n in range(8)),
        )
        await canal.settled(events=9)
        worker.terminate()
        worker.wait_ended()
    said = lines(worker)
    for text, level in (("by structlog", "info"), ("by logging", "warning")):
        found = {line["event_id"]: line for line in said if line["event"] == text}
        assert found.keys() == {"traced", *(f"e{n}" for n in range(8))}
        about = found["traced"]
        assert about["partition"] == canal.keys.partition_of("k")
        assert (about["attempt"], about["lane"], about["traceparent"]) == (1, "normal", TRACED)
        assert "traceparent" not in found["e0"]
        assert (about["branch"], about["pipeline"], about["worker"]) == ("a", "test/canal", "w1")
        assert about["level"] == level
        assert about["timestamp"].endswith("Z")
    assert {line["logger"] for line in said if line["event"] == "by logging"} == {"theirs"}


async def test_every_line_of_the_worker_about_an_event_says_which(canal: Desk, tmp_path: Path) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(retry=QUICK))
        await canal.publish(NewEvent(id="bad", data={"do": "fail"}, key="k", traceparent=TRACED))
        await canal.settled(events=1)
    about = [line for line in lines(worker) if line["event"].startswith("event.")]
    assert [(line["event"], line["attempt"]) for line in about] == [
        ("event.retried", 1),
        ("event.retried", 2),
        ("event.dead_lettered", 3),
    ]
    for line in about:
        assert (line["event_id"], line["partition"], line["lane"], line["traceparent"]) == (
            "bad",
            canal.keys.partition_of("k"),
            "normal",
            TRACED,
        )


async def test_what_is_about_no_event_in_particular_names_none(canal: Desk, tmp_path: Path) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        batch = BatchSettings(max_events=4, max_wait_seconds=0.2)
        worker = workers.start(
            canal.contract(function="streams.trace_handlers:batch", batch=batch, concurrency=1)
        )
        await canal.publish(*(NewEvent(id=f"e{n}", data=n) for n in range(4)))
        await canal.settled(events=4)
        for partition in canal.keys.all:
            await canal.command(partition.stats, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await canal.publish(NewEvent(id="e4", data=4))
        await canal.settled(events=5)
        worker.terminate()
        worker.wait_ended()
    said = lines(worker)
    assert {line["of"] for line in said if line["event"] == "seen"} == {f"e{n}" for n in range(5)}
    assert [line for line in said if "event_id" in line] == []


@pytest.mark.parametrize(
    ("level", "levels"),
    [("error", {"error"}), ("WARNING", {"error", "warning"}), ("debug", {"error", "warning", "info"})],
)
async def test_the_least_level_is_as_the_environment_says(
    canal: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, levels: set[str]
) -> None:
    monkeypatch.setenv("HEADGATE_LOG_LEVEL", level)
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(retry=QUICK), wait_for="")
        await canal.publish(NewEvent(id="bad", data={"do": "fail"}))
        await canal.settled(events=1)
        worker.wait_for("dead_lettered")
    assert {line["level"] for line in lines(worker)} == levels


async def test_a_level_that_is_none_is_told_and_info_is_kept(
    canal: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_LOG_LEVEL", "loud")
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract())
    assert lines(worker)[0] | {"timestamp": ""} == {
        "event": "log.unknown_level",
        "level": "warning",
        "wanted": "loud",
        "known": "debug, info, warning, error",
        "branch": "a",
        "pipeline": "test/canal",
        "worker": "w1",
        "timestamp": "",
    }
