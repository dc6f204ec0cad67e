"""`headgate scale`, against a server that answers as an API server does for this one object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from headgate_cli.scale import explained
from headgate_operator.api import BranchStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHERE = "/apis/headgate.dev/v1alpha1/namespaces/shop/fanoutpipelines/orders"
PACK = {
    "name": "pack",
    "replicas": 3,
    "readyReplicas": 2,
    "desiredReplicas": 5,
    "backlog": 1200,
    "ageSeconds": 7,
    "reason": "5 workers: to work off what waits within 30 s (1200 unsettled)",
}
BILL = {"name": "bill", "replicas": 0, "readyReplicas": 0, "desiredReplicas": 0}


class Cluster(BaseHTTPRequestHandler):
    status: dict[str, Any]

    def do_GET(self) -> None:
        found = self.path == WHERE
        answer = (
            {"metadata": {"name": "orders"}, "status": self.status} if found else {"message": "not found"}
        )
        body = json.dumps(answer).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[str]:
    Cluster.status = {"observedGeneration": 1, "branches": [PACK, BILL]}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = tmp_path / "kubeconfig"
    named = {"name": "here"}
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [named | {"cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [named | {"user": {"token": "none"}}],
                "contexts": [named | {"context": {"cluster": "here", "user": "here"}}],
                "current-context": "here",
            }
        )
    )
    yield str(file)
    server.shutdown()
    server.server_close()


def scale(*arguments: str, kubeconfig: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headgate_cli.main", "scale", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KUBECONFIG": kubeconfig},
        timeout=60,
    )


@pytest.mark.parametrize("flags", [(), ("--explain",)], ids=["by default", "with --explain"])
def test_each_branch_is_told_with_the_decision_that_led_to_its_workers(
    kubeconfig: str, flags: tuple[str, ...]
):
    said = scale(*flags, "-p", "shop/orders", kubeconfig=kubeconfig)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        "pack: 5 wanted, 3 there, 2 ready; backlog 1200, the oldest event 7 s old",
        "  5 workers: to work off what waits within 30 s (1200 unsettled)",
        "bill: 0 wanted, 0 there, 0 ready; backlog unknown",
        "  nothing was decided yet",
    ]


def test_one_branch_alone(kubeconfig: str):
    said = scale("-p", "shop/orders", "-b", "bill", kubeconfig=kubeconfig)
    assert said.stdout.startswith("bill: ")
    assert "pack" not in said.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("-p", "shop/others"), 1, "--pipeline shop/others: the cluster has no such pipeline"),
        (
            ("-p", "shop/orders", "-b", "ship"),
            1,
            "--branch ship: pipeline shop/orders has no such",
        ),
    ],
    ids=["no such pipeline", "no such branch"],
)
def test_what_cannot_be_told_is_said_with_what_to_do(
    kubeconfig: str, arguments: tuple[str, ...], code: int, told: str
):
    said = scale(*arguments, kubeconfig=kubeconfig)
    assert said.returncode == code
    assert told in said.stderr
    assert "Traceback" not in said.stderr


def test_a_cluster_that_is_not_there_is_said_in_a_line(tmp_path: Path):
    said = scale("-p", "shop/orders", kubeconfig=str(tmp_path / "nothing"))
    assert said.returncode == 1
    assert "KUBECONFIG: " in said.stderr
    assert "Traceback" not in said.stderr


def test_a_pipeline_nobody_has_looked_at_yet_says_so(kubeconfig: str):
    Cluster.status = {}
    said = scale("-p", "shop/orders", kubeconfig=kubeconfig)
    assert said.returncode == 1
    assert "is the operator running?" in said.stderr


def test_an_event_that_is_new_has_no_age():
    branch = BranchStatus(name="pack", backlog=0, age_seconds=0, reason="0 workers: nothing waits")
    assert explained(branch).splitlines()[0].endswith("backlog 0")
