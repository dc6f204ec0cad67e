"""A real cluster with the operator installed by its chart and a Valkey server; a namespace for each test.

The cluster is started on first use and stopped with the session, unless it ran before; HEADGATE_KEEP_CLUSTER=1
leaves it running. A failed test shows its namespace's objects, events and logs, and the operator's log.
"""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from cluster.apiserver import ApiServer
from cluster.installation import install
from cluster.kube import OPERATOR_NAMESPACE, ROOT, Cluster, cluster_runs, start_cluster, stop_cluster
from cluster.node import Node
from cluster.streams import Streams
from cluster.video import BRANCHES, NAME, VideoExample, video_example
from headgate.streams import PipelineKeys
from headgate_operator.cluster import Cluster as ApiClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_CLUSTERS: list[Cluster] = []


@pytest.fixture(scope="session")
def helm() -> str:
    """The program, built once."""
    built = subprocess.run(
        [ROOT / "hack/cluster/programs", "helm"], capture_output=True, text=True, check=True
    )
    return f"{built.stdout.strip()}/helm"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server alone that serves FanoutPipelines, for all tests that need no node."""
    server = ApiServer(tmp_path_factory.mktemp("api-server"))
    server.start()
    try:
        server.serve_pipelines()
        yield server
    finally:
        server.stop()


@pytest.fixture
async def api(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiClient]:
    """The operator's client of that API server."""
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    connected = await ApiClient.connect()
    yield connected
    await connected.aclose()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with our images on its node."""
    ran_before = cluster_runs()
    try:
        started = start_cluster()
        _CLUSTERS.append(started)
        yield started
    finally:
        if not ran_before and not os.environ.get("HEADGATE_KEEP_CLUSTER"):
            stop_cluster()


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Cluster:
    """The cluster with a server and the operator in it, installed as a user does."""
    install(cluster)
    return cluster


@pytest.fixture
def namespace(operator: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:30].strip("-")
    with operator.namespace(f"{word}-{uuid.uuid4().hex[:4]}") as name:
        yield name


@pytest.fixture
def video(operator: Cluster, namespace: str) -> Iterator[VideoExample]:
    """The video example's media in the test's namespace; its pipeline is the test's to apply."""
    with video_example(operator, namespace) as example:
        yield example


@pytest.fixture(scope="session")
def redis_url(operator: Cluster) -> Iterator[str]:
    """The URL, on this machine, of the server in the cluster."""
    with operator.forward(OPERATOR_NAMESPACE, "deployment/valkey", 6379) as address:
        yield f"redis://{address}"


@pytest.fixture
def streams(redis_url: str, namespace: str) -> Streams:
    """The streams of the video example in the test's namespace."""
    return Streams(redis_url, PipelineKeys(namespace, NAME), BRANCHES)


@pytest.fixture(scope="session")
def node(operator: Cluster) -> Node:
    """The node, to kill processes on it."""
    found = Node(operator)
    found.start()
    return found


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds to a failed test's report what the cluster has to say about it."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and item.path.parent.name == "cluster":
        for cluster in _CLUSTERS:
            report.sections.extend(cluster.diagnosis())
