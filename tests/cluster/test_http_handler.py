"""A service in the cluster gets every event once, signed; when it says that it is gone, its branch closes and waits."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook

from cluster.kube import Manifest, condition, wait_until
from cluster.receiver import PORT, receiver
from cluster.streams import Streams
from headgate.event import NewEvent
from headgate.streams import PipelineKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.kube import Cluster

NAME = "hooks"
KEYS = ["whsec_" + base64.b64encode(word * 32).decode() for word in (b"a", b"b")]  # the newest first
EVENTS = 30


class Hooks:
    """The pipeline and its receiver in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, streams: Streams, address: str) -> None:
        self.cluster, self.namespace, self.streams = cluster, namespace, streams
        self._url = f"http://{address}"

    def pushed(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(self._url) as answer:  # noqa: S310 - of this machine
            return json.load(answer)

    def answers(self, status: int) -> None:
        request = urllib.request.Request(self._url, data=str(status).encode(), method="PUT")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310

    def publish(self, count: int) -> None:
        self.streams.publish([NewEvent(data={"n": n}, type="number") for n in range(count)])

    def pipeline(self) -> Manifest:
        return self.cluster.get(self.namespace, f"fanoutpipeline/{NAME}")


@pytest.fixture
def hooks(operator: Cluster, namespace: str, redis_url: str) -> Iterator[Hooks]:
    operator.apply(*receiver(namespace))
    operator.wait(namespace, "deployment/receiver", "condition=Available")
    address = operator.get(namespace, "service/receiver")["spec"]["clusterIP"]
    operator.apply(_secret(namespace), _pipeline(namespace, f"{address}/32"))
    operator.wait(namespace, f"fanoutpipeline/{NAME}", "condition=Ready")
    with operator.forward(namespace, "deployment/receiver", PORT) as forwarded:
        yield Hooks(
            operator, namespace, Streams(redis_url, PipelineKeys(namespace, NAME), ("hook",)), forwarded
        )


def test_a_service_in_the_cluster_gets_every_event_once_and_signed(hooks: Hooks):
    hooks.publish(EVENTS)
    wait_until("all records", lambda: hooks.streams.measure().joined == EVENTS, 60)
    pushed = hooks.pushed()
    assert sorted(json.loads(each["body"])["n"] for each in pushed) == list(range(EVENTS))
    for each in pushed:
        for key in KEYS:
            Webhook(key).verify(each["body"], each["headers"])  # raises when neither signature is the key's
        assert each["headers"]["ce-type"] == "number"
    assert all(record.results["hook"]["seen"] for record in hooks.streams.records())
    deployment = hooks.cluster.get(hooks.namespace, f"deployment/{NAME}-hook")
    (worker,) = deployment["spec"]["template"]["spec"]["containers"]
    assert worker["image"] == "headgate/operator:dev", "the operator's own image pushes"


def test_a_service_that_is_gone_closes_its_branch_until_somebody_opens_it(hooks: Hooks):
    hooks.answers(410)
    hooks.publish(3)
    closed = wait_until(
        "BranchClosed", lambda: condition(found := hooks.pipeline(), "BranchClosed") == "True" and found, 30
    )
    assert closed["status"]["branches"][0]["gate"] == "Closed"
    deployment = f"deployment/{NAME}-hook"
    wait_until(
        "no workers",
        lambda: hooks.cluster.get(hooks.namespace, deployment)["spec"].get("replicas") == 0,
        10,
    )
    events = {item["reason"] for item in hooks.cluster.items(hooks.namespace, "events.events.k8s.io")}
    assert "BranchClosed" in events
    assert hooks.streams.measure().branches["hook"].backlog == 3
    hooks.answers(200)
    command = (sys.executable, "-m", "headgate_cli.main", "open", "--redis-url", hooks.streams.url)
    subprocess.run([*command, "-p", f"{hooks.namespace}/{NAME}", "-b", "hook"], check=True, timeout=30)
    wait_until("all records", lambda: hooks.streams.measure().joined == 3, 60)
    assert hooks.streams.measure().branches["hook"].dead == 0
    wait_until("open", lambda: condition(hooks.pipeline(), "BranchClosed") == "False", 10)


def _secret(namespace: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "signing", "namespace": namespace},
        "stringData": {"keys": "\n".join(KEYS)},
    }


def _pipeline(namespace: str, network: str) -> Manifest:
    http = {
        "url": f"http://receiver.{namespace}:{PORT}/hook",
        "signingSecretRef": {"name": "signing"},
        "allowNetworks": [network],
    }
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "branches": [{"name": "hook", "handler": {"http": http}, "scale": {"scaleDownAfterSeconds": 5}}],
            "join": {"branches": ["hook"]},
        },
    }
