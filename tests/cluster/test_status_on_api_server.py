"""What is told of a pipeline, on a real API server: events that become series, and what `kubectl get` shows."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator.api import API_VERSION, KIND, FanoutPipelineStatus
from headgate_operator.events import Notice, Severity, Subject
from headgate_operator.recorder import Recorder
from headgate_operator.status import loaded, merge_patch

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer
    from headgate_operator.cluster import Cluster

LOST = Notice(Severity.WARNING, "RedisUnreachable", "no answer; check that it runs")


@pytest.fixture
async def subject(api: Cluster) -> Subject:
    handler = {"python": {"image": "videos:1", "function": "videos:work"}}
    made = await api.create(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": "default", "name": f"told-{uuid.uuid4().hex[:8]}"},
            "spec": {"branches": [{"name": "pack", "handler": handler}]},
        }
    )
    return Subject("default", made["metadata"]["name"], made["metadata"]["uid"])


def events_of(api_server: ApiServer, subject: Subject) -> list[dict[str, Any]]:
    found = api_server.kubectl("get", "events.events.k8s.io", "-o", "json")
    return [item for item in json.loads(found.stdout)["items"] if item["regarding"].get("uid") == subject.uid]


async def test_the_same_event_again_becomes_a_series(api, api_server, subject):
    recorder = Recorder(api, "operator-1")
    for _ in range(3):
        await recorder.record(subject, LOST)
    (event,) = events_of(api_server, subject)
    assert event["series"]["count"] == 3
    assert event["reason"] == "RedisUnreachable"
    described = api_server.kubectl("describe", "fanoutpipeline", subject.name).stdout
    assert "no answer; check that it runs" in described


async def test_an_event_that_was_deleted_is_written_anew(api, api_server, subject):
    recorder = Recorder(api, "operator-1")
    await recorder.record(subject, LOST)
    (event,) = events_of(api_server, subject)
    api_server.kubectl("delete", "events.events.k8s.io", event["metadata"]["name"])
    await recorder.record(subject, LOST)
    (again,) = events_of(api_server, subject)
    assert again["metadata"]["name"] != event["metadata"]["name"]


async def test_kubectl_get_shows_branches_workers_backlog_oldest_and_dead(api, api_server, subject):
    status = FanoutPipelineStatus(
        observed_generation=1,
        branches_ready="2/3",
        workers=7,
        backlog=1200,
        oldest_seconds=12,
        dead_letters=4,
    )
    await api.patch(API_VERSION, KIND, "default", subject.name, merge_patch(status), subresource="status")
    head, row = api_server.kubectl("get", "fanoutpipeline", subject.name).stdout.splitlines()
    assert head.split() == ["NAME", "READY", "BRANCHES", "WORKERS", "BACKLOG", "OLDEST", "DEAD", "AGE"]
    assert row.split()[1:6] == ["2/3", "7", "1200", "12", "4"]


async def test_what_is_unknown_now_is_taken_out_of_the_status(api, subject):
    known = FanoutPipelineStatus(workers=7, backlog=1200, oldest_seconds=12, dead_letters=4, published=9)
    path = (API_VERSION, KIND, "default", subject.name)
    await api.patch(*path, merge_patch(known), subresource="status")
    found = await api.patch(*path, merge_patch(FanoutPipelineStatus()), subresource="status")
    assert loaded(found["status"]) == FanoutPipelineStatus()
