"""Kubernetes' own autoscaler on what we write for it: it asks for exactly the workers that the pilot wants.

A real controller manager beside an API server, and an external metrics API that serves the pilot's number; no node.
KEDA makes its autoscalers with the same target and the same behaviour.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster.apiserver import ApiServer
from headgate_operator import engines
from headgate_operator.engines.manifests import EXTERNAL_METRIC
from headgate_operator.manifests.names import labels, selector
from streams.certificates import Authority
from streams.servers import free_port
from unit.pipelines import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
GROUP = "external.metrics.k8s.io"
WAIT_SECONDS = 120
NAME = "orders-pack"


class Metrics:
    """The external metrics API, with one number; None is a metric that is not there."""

    def __init__(self, folder: Path) -> None:
        self.wanted: int | None = 1
        self.asked: list[str] = []
        ours = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = ours.answer(self.path)
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        own = Authority(folder).sign("localhost", "DNS:localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.file, own.key)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        version = {"apiVersion": f"{GROUP}/v1beta1"}
        if EXTERNAL_METRIC not in path:
            kind = {
                "name": EXTERNAL_METRIC,
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
            about = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1beta1"}
            return 200, about | {"resources": [kind | {"singularName": ""}]}
        self.asked.append(path)
        if self.wanted is None:
            return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        value = {"metricName": EXTERNAL_METRIC, "metricLabels": {}, "timestamp": "2026-01-31T12:00:00Z"}
        items = [value | {"value": str(self.wanted)}]
        return 200, version | {"kind": "ExternalMetricValueList", "metadata": {}, "items": items}


class World:
    """An API server, a controller manager and the metrics; the Deployment and its autoscaler are `orders-pack`."""

    def __init__(self, server: ApiServer, metrics: Metrics) -> None:
        self.server = server
        self.metrics = metrics

    def get(self, what: str) -> dict[str, Any]:
        done = self.server.kubectl("-n", "shop", "get", what, NAME, "-o", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def replicas(self) -> int:
        return int(self.get("deployment")["spec"]["replicas"])

    def steps(self) -> list[int]:
        """The sizes that the autoscaler set, in order."""
        done = self.server.kubectl("-n", "shop", "get", "events", "-o", "json")
        told = [item for item in json.loads(done.stdout)["items"] if item["reason"] == "SuccessfulRescale"]
        told.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        return [int(item["message"].split(";")[0].rpartition(" ")[2]) for item in told]

    def per_worker(self) -> str:
        """What the autoscaler last saw of the metric, a worker."""
        found = self.get("hpa").get("status", {}).get("currentMetrics") or [{}]
        return str(found[0].get("external", {}).get("current", {}).get("averageValue", ""))

    def condition(self, name: str) -> str:
        conditions = self.get("hpa").get("status", {}).get("conditions", [])
        return next((f"{each['status']}/{each['reason']}" for each in conditions if each["type"] == name), "")

    def follow(self, wanted: int) -> None:
        """Returns when there are as many workers as are wanted, and the autoscaler is content with them."""
        self.metrics.wanted = wanted
        eventually(lambda: self.replicas() == wanted and self.per_worker() == "1")


def eventually(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not check():
        assert time.monotonic() < deadline, f"not so within {WAIT_SECONDS} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("autoscaler")
    programs = [ROOT / "hack/cluster/programs", "kube-apiserver", "kube-controller-manager", "kubectl"]
    built = subprocess.run(programs, capture_output=True, text=True, check=True).stdout.strip()
    metrics = Metrics(folder / "certificates")
    server = ApiServer(folder)
    server.start()
    command = [
        f"{built}/kube-controller-manager",
        f"--kubeconfig={server.kubeconfig}",
        "--leader-elect=false",
    ]
    command += ["--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={folder}/manager"]
    chosen = "deployment-controller,replicaset-controller,horizontal-pod-autoscaler-controller"
    command += [f"--controllers={chosen}", "--horizontal-pod-autoscaler-sync-period=1s"]
    with (folder / "manager.log").open("wb") as log:
        manager = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for given in (*registration(metrics.port), *objects()):
            eventually(lambda given=given: server.kubectl("apply", "-f", "-", given=given).returncode == 0)
        yield World(server, metrics)
    finally:
        manager.kill()
        manager.wait()
        server.stop()
        metrics.server.shutdown()
        metrics.server.server_close()
        print((folder / "manager.log").read_text()[-3000:])  # noqa: T201  # pytest shows it when a test fails


def registration(port: int) -> list[dict[str, Any]]:
    """What makes the API server pass the group's calls on to this process."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": "shop", "name": "default"},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "metrics", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    group = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{GROUP}"},
        "spec": {"group": GROUP, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
        | {
            "service": {"name": "metrics", "namespace": "default", "port": port},
            "insecureSkipTLSVerify": True,
        },
    }
    return [space, account, service, group]


def objects() -> list[dict[str, Any]]:
    """The autoscaler as the operator writes it, and a Deployment for it to scale."""
    (autoscaler,) = engines.manifests(pipeline({"scale": {"engine": "Hpa", "min": 1, "max": 40}}), None)
    del autoscaler["metadata"]["ownerReferences"]
    template = {
        "metadata": {"labels": labels("orders", "pack")},
        "spec": {"containers": [{"name": "worker", "image": "shop:1"}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": NAME},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector("orders", "pack")},
            "template": template,
        },
    }
    return [deployment, autoscaler]


def test_it_goes_straight_to_each_number_that_the_pilot_wants(world):
    world.follow(1)
    before = world.steps()
    for wanted in (32, 5, 9, 10, 2, 1):
        world.follow(wanted)
    assert world.steps()[len(before) :] == [32, 5, 9, 10, 2, 1]
    asked = set(world.metrics.asked)
    assert len(asked) == 1
    assert (
        f"/namespaces/shop/{EXTERNAL_METRIC}?labelSelector=branch%3Dpack%2Cpipeline%3Dorders" in asked.pop()
    )


def test_what_is_unknown_holds_what_is_there(world):
    world.follow(6)
    world.metrics.wanted = None
    eventually(lambda: world.condition("ScalingActive") == "False/FailedGetExternalMetric")
    assert world.replicas() == 6
    world.follow(7)


def test_it_ignores_less_than_a_tenth_as_the_guide_says(world):
    world.follow(10)
    world.metrics.wanted = 11
    eventually(lambda: world.per_worker() == "1100m")
    eventually(lambda: world.condition("AbleToScale") == "True/ReadyForNewScale")
    assert world.replicas() == 10
    world.follow(12)
