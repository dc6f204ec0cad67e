"""A namespace with many pipelines goes although Redis is down: Kubernetes' own namespace controller, and no node."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from chaos.ledger.server import DurableServer
from cluster.apiserver import _ROOT
from cluster.kube import condition, wait_until
from cluster.test_namespace_deletion import PIPELINES, SECONDS, pipeline
from cluster.test_reconcile_on_api_server import HEADGATE, applied

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer


@pytest.fixture
def controllers(api_server: ApiServer, tmp_path: Path) -> Iterator[None]:
    """The controllers that empty a namespace."""
    programs = [str(_ROOT / "hack/cluster/programs"), "kube-controller-manager"]
    found = subprocess.run(programs, capture_output=True, text=True, check=True).stdout.strip()
    command = [f"{found}/kube-controller-manager", f"--kubeconfig={api_server.kubeconfig}"]
    command += ["--controllers=namespace-controller,garbage-collector-controller"]
    command += ["--leader-elect=false", "--secure-port=0"]
    with (tmp_path / "controllers.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield
    process.kill()
    process.wait()


@pytest.mark.usefixtures("controllers")
@pytest.mark.parametrize("kind", ["refuses", "says nothing"])
def test_a_namespace_goes_while_redis(api_server: ApiServer, tmp_path: Path, kind: str) -> None:
    namespace = f"many-{kind.replace(' ', '-')}"
    assert api_server.kubectl("create", "namespace", namespace).returncode == 0
    log = tmp_path / "operator.log"
    with DurableServer.running() as redis, log.open("wb") as sink, contextlib.ExitStack() as opened:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "own-redis", "namespace": namespace},
        }
        applied(api_server, secret | {"stringData": {"url": redis.url}})
        environment = {
            **os.environ,
            "KUBECONFIG": str(api_server.kubeconfig),
            "HEADGATE_WORKER_IMAGE": "headgate/worker:1",
            "POD_NAMESPACE": "default",
        }
        command = [
            HEADGATE,
            "operator",
            "--metrics-port",
            "0",
            "--health-port",
            "0",
            "--namespace",
            namespace,
        ]
        operator = subprocess.Popen(command, env=environment, stderr=sink)
        opened.callback(lambda: (operator.kill(), operator.wait()))
        for number in range(PIPELINES):
            applied(api_server, _idle(namespace, number))
        wait_until("all are ready", lambda: _count(api_server, namespace, "Ready") == PIPELINES, 120)
        redis.kill()
        if kind == "says nothing":
            port = int(redis.url.rsplit(":", 1)[1])
            opened.enter_context(socket.create_server(("127.0.0.1", port), backlog=1000))
        down = "the statuses say that Redis is down"
        wait_until(down, lambda: _count(api_server, namespace, "RedisReachable") == 0, 120)

        began = time.monotonic()
        done = api_server.kubectl("delete", "namespace", namespace, "--timeout=120s")
        seconds = time.monotonic() - began
        print(f"a namespace with {PIPELINES} pipelines while Redis {kind}: {seconds:.1f} s")  # noqa: T201
        assert done.returncode == 0, done.stderr
        assert seconds < SECONDS


def _idle(namespace: str, number: int) -> dict:
    manifest = pipeline(namespace, number)
    manifest["spec"]["branches"][0]["scale"]["min"] = 0  # no node, no worker
    return manifest


def _count(api_server: ApiServer, namespace: str, wanted: str) -> int:
    found = api_server.kubectl("-n", namespace, "get", "fanoutpipelines", "-o", "json")
    return sum(condition(item, wanted) == "True" for item in json.loads(found.stdout)["items"])
