"""What a running operator makes of changes: branches taken out, pauses, dry runs; nothing lost, nothing hasty."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cluster.test_reconcile_on_api_server import (
    HEADGATE,
    applied,
    eventually,
    get,
    listed,
    manifest,
    redis_url,
    replicas,
)
from headgate.contract import BranchContract
from headgate.event import NewEvent
from headgate.streams import Publisher, Server
from headgate.streams.consumer import Consumer
from headgate.streams.keys import PipelineKeys
from headgate.streams.wire import Wires
from streams.desk import done, take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

__all__ = ["redis_url"]  # a fixture


class RunningOperator:
    """An operator with every right: which it needs is tried elsewhere."""

    def __init__(self, server: ApiServer, redis_url: str, log: Path) -> None:
        self._log = log
        environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "HEADGATE_REDIS_URL": redis_url}
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [HEADGATE, "operator", "--metrics-port", "0", "--health-port", "0"],
                env=environment,
                stderr=sink,
            )

    def told(self, event: str) -> bool:
        return f'"event": "{event}"' in self._log.read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)


@pytest.fixture
def operator(api_server: ApiServer, redis_url: str, tmp_path: Path) -> Iterator[RunningOperator]:
    running = RunningOperator(api_server, redis_url, tmp_path / "operator.log")
    try:
        yield running
    finally:
        running.stop()
        print((tmp_path / "operator.log").read_text())  # noqa: T201 - pytest shows it when the test fails


def publish(url: str, name: str, count: int) -> None:
    async def work() -> None:
        server = Server.connect(url)
        publisher = await Publisher.open(server, "default", name)
        await publisher.publish([NewEvent(data=number) for number in range(count)])
        await server.aclose()

    asyncio.run(work())


def settle(url: str, name: str, branch: str) -> int:
    """Does a worker's work until there is none; gives how many events that were."""

    async def work() -> int:
        server = Server.connect(url)
        wires = Wires(server)
        contract = BranchContract(namespace="default", pipeline=name, branch=branch, function="m:f")
        consumer = Consumer(wires, PipelineKeys("default", name).partition(0), contract)
        await consumer.register("w1.x")
        settled = 0
        while deliveries := await take(consumer):
            await consumer.settle([done(delivery) for delivery in deliveries])
            settled += len(deliveries)
        await consumer.release()
        wires.close()
        await asyncio.sleep(0.01)
        await server.aclose()
        return settled

    return asyncio.run(work())


def without(given: dict[str, Any], branch: str, **spec: Any) -> dict[str, Any]:
    branches = [each for each in given["spec"]["branches"] if each["name"] != branch]
    return given | {"spec": given["spec"] | {"branches": branches} | spec}


def test_a_branch_taken_out_keeps_its_workers_until_it_has_drained_and_then_goes(
    api_server: ApiServer, operator: RunningOperator, redis_url: str, tmp_path: Path
) -> None:
    name = "drains"
    given = manifest(name, keeps={}, leaves={})
    applied(api_server, given)
    eventually(lambda: set(replicas(api_server, name)) == {"keeps", "leaves"})
    eventually(lambda: get(api_server, name)["status"].get("published") == 0)
    publish(redis_url, name, 5)
    eventually(lambda: replicas(api_server, name)["leaves"] > 0)
    before = listed(api_server, "deployments", name)
    applied(api_server, without(given, "leaves"))
    eventually(lambda: get(api_server, name)["status"]["observedGeneration"] == 2)
    publish(redis_url, name, 7)
    operator.stop(signal.SIGKILL)
    heir = RunningOperator(api_server, redis_url, tmp_path / "heir.log")
    try:
        eventually(lambda: heir.told("scaled a branch that drains") or heir.told("leading"), 30)
        after = {item["metadata"]["uid"]: item for item in listed(api_server, "deployments", name)}
        for item in before:
            kept = after[item["metadata"]["uid"]]
            assert kept["spec"]["template"] == item["spec"]["template"]
        assert replicas(api_server, name)["leaves"] > 0
        assert settle(redis_url, name, "leaves") == 5
        eventually(lambda: set(replicas(api_server, name)) == {"keeps"}, 30)
        assert settle(redis_url, name, "keeps") == 12
    finally:
        heir.stop()


def test_one_that_is_to_be_deleted_goes_at_once(
    api_server: ApiServer, operator: RunningOperator, redis_url: str
) -> None:
    name = "goes"
    given = manifest(name, keeps={}, leaves={})
    applied(api_server, given)
    eventually(lambda: get(api_server, name).get("status", {}).get("published") == 0)
    publish(redis_url, name, 5)
    applied(api_server, without(given, "leaves", onRemove="Delete"))
    eventually(lambda: set(replicas(api_server, name)) == {"keeps"})
    assert operator.process.poll() is None


def test_a_paused_branch_has_no_workers_whatever_it_holds_and_gets_them_back(
    api_server: ApiServer, operator: RunningOperator, redis_url: str
) -> None:
    name = "pauses"
    given = manifest(name, flows={}, waits={"paused": True, "scale": {"min": 2, "max": 4}})
    applied(api_server, given)
    eventually(lambda: get(api_server, name).get("status", {}).get("published") == 0)
    publish(redis_url, name, 5)
    eventually(lambda: replicas(api_server, name).get("flows"))
    eventually(lambda: replicas(api_server, name)["waits"] == 0)
    assert settle(redis_url, name, "waits") == 0
    given["spec"]["branches"][1]["paused"] = False
    applied(api_server, given)
    eventually(lambda: replicas(api_server, name)["waits"] >= 2)
    assert settle(redis_url, name, "waits") == 5
    assert operator.process.poll() is None


def test_a_dry_run_tells_what_would_change_and_changes_nothing_until_it_ends(
    api_server: ApiServer, operator: RunningOperator, redis_url: str
) -> None:
    name = "rehearsed"
    given = manifest(name, keeps={}, leaves={})
    applied(api_server, given)
    eventually(lambda: get(api_server, name).get("status", {}).get("published") == 0)
    publish(redis_url, name, 5)
    eventually(lambda: all(replicas(api_server, name).values()))
    before = {item["metadata"]["name"]: item["spec"] for item in listed(api_server, "deployments", name)}

    changed = json.loads(json.dumps(without(given, "leaves", source={"partitions": 2})))
    changed["metadata"]["annotations"] = {"headgate.dev/dry-run": "true"}
    changed["spec"]["branches"][0]["handler"]["python"]["image"] = "videos:2"
    changed["spec"]["branches"].append(manifest(name, comes={})["spec"]["branches"][0])
    applied(api_server, changed)
    plan = eventually(lambda: get(api_server, name)["status"].get("plan"))
    told = "\n".join(plan)  # type: ignore[arg-type]
    assert "Redis: spec.source.partitions 1 -> 2" in told
    assert "Redis: groups of branch comes made, from Now on" in told
    assert "Redis: branch leaves drains 5 unsettled events, then goes" in told
    assert "Deployment rehearsed-comes: created" in told
    assert "Deployment rehearsed-leaves" not in told
    image = "spec.template.spec.containers[worker].image videos:1 -> videos:2"
    (keeps,) = [line for line in plan if line.startswith("Deployment rehearsed-keeps: ")]  # type: ignore[attr-defined]
    assert image in keeps
    assert "HEADGATE_CONTRACT" in keeps
    assert "replicas" not in keeps
    seen = {item["metadata"]["name"]: item["spec"] for item in listed(api_server, "deployments", name)}
    assert seen.keys() == before.keys()
    assert all(seen[each]["template"] == before[each]["template"] for each in before)
    assert get(api_server, name)["status"]["observedGeneration"] == 1

    done = api_server.kubectl("annotate", "fanoutpipeline", name, "headgate.dev/dry-run-")
    assert done.returncode == 0, done.stderr
    eventually(lambda: "comes" in replicas(api_server, name))
    eventually(lambda: get(api_server, name)["status"]["observedGeneration"] == 2)
    assert not get(api_server, name)["status"].get("plan")
    assert operator.process.poll() is None


def test_a_dry_run_over_what_is_as_it_should_be_says_so(
    api_server: ApiServer, operator: RunningOperator
) -> None:
    name = "asis"
    applied(api_server, manifest(name))
    eventually(lambda: get(api_server, name).get("status", {}).get("published") == 0)
    api_server.kubectl("annotate", "fanoutpipeline", name, "headgate.dev/dry-run=true")
    plan = eventually(lambda: get(api_server, name)["status"].get("plan"))
    assert plan == ["nothing: all is as the spec says"]
    assert operator.process.poll() is None
