"""The control plane on a real API server: what it writes, that it writes it once, and that it can die anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from headgate.streams import PipelineKeys
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.cluster import Cluster
from headgate_operator.reconcile import Findings, reconcile
from headgate_operator.servers import Servers
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.apiserver import ApiServer
    from headgate.streams import Server
    from headgate_operator.pipeline import Pipeline

HEADGATE = str(Path(sys.executable).with_name("headgate"))
RBAC = Path(__file__).parents[2] / "docs" / "reference" / "rbac.md"
CHILDREN = "deployments,serviceaccounts,secrets"


@pytest.fixture
def redis_url() -> Iterator[str]:
    with redis7() as url:
        yield url


@pytest.fixture
def cluster(api):
    return api


class Plane:
    """One operator's memory: a fresh one is a restarted operator."""

    def __init__(self, cluster: Cluster, redis_url: str | None, worker_image: str | None = None) -> None:
        self.substrate = KubernetesSubstrate(cluster, redis_url, worker_image)
        self.servers = Servers()

    async def reconcile(self, manifest: dict[str, Any]) -> Findings:
        return await reconcile(manifest, substrate=self.substrate, connect=self._connect)

    async def _connect(self, pipeline: Pipeline) -> Server:
        return await self.servers.assign(pipeline, (await self.substrate.redis(pipeline)).url)


@pytest.fixture
async def restarted():
    """Makes a plane, as an operator's start does; call it again for a restarted one."""
    planes: list[Plane] = []

    def start(cluster: Cluster, redis_url: str | None, worker_image: str | None = None) -> Plane:
        planes.append(Plane(cluster, redis_url, worker_image))
        return planes[-1]

    yield start
    for plane in planes:
        await plane.servers.aclose()


class DyingCluster(Cluster):
    """Lets so many calls through; after that the process is as good as dead."""

    calls_left = 0

    async def _call(self, *arguments: Any) -> dict[str, Any]:
        if self.calls_left == 0:
            raise asyncio.CancelledError
        self.calls_left -= 1
        return await super()._call(*arguments)


def manifest(name: str, **branches: dict[str, Any]) -> dict[str, Any]:
    python = {"python": {"image": "videos:1", "function": "videos:work"}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "branches": [
                {"name": branch, "handler": python, "scale": {"min": 0, "max": 10}} | settings
                for branch, settings in (branches or {"thumbnail": {}, "transcode": {}}).items()
            ]
        },
    }


def applied(server: ApiServer, given: dict[str, Any]) -> dict[str, Any]:
    done = server.kubectl("apply", "-o", "json", "-f", "-", given=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def listed(server: ApiServer, kinds: str, name: str) -> list[dict[str, Any]]:
    done = server.kubectl(
        "get", kinds, "-l", f"headgate.dev/pipeline={name}", "-o", "json", "--show-managed-fields"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["items"]


def versions(server: ApiServer, name: str) -> dict[str, str]:
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in listed(server, CHILDREN, name)
    }


def essence(server: ApiServer, name: str) -> dict[str, Any]:
    """What of the children follows from the manifest."""
    text = json.dumps(
        {
            f"{item['kind']}/{item['metadata']['name']}": {
                "labels": item["metadata"]["labels"],
                "owners": [owner["name"] for owner in item["metadata"]["ownerReferences"]],
                "spec": item.get("spec"),
                "data": item.get("data"),
            }
            for item in listed(server, CHILDREN, name)
        }
    )
    found = json.loads(text.replace(name, "NAME"))
    for item in found.values():
        if item["spec"]:
            del item["spec"]["template"]["metadata"]["annotations"]["headgate.dev/redis-fingerprint"]
    return found


def replicas(server: ApiServer, name: str) -> dict[str, int]:
    return {
        item["metadata"]["labels"]["headgate.dev/branch"]: item["spec"]["replicas"]
        for item in listed(server, "deployments", name)
    }


def eventually(check: Callable[[], object], seconds: float = 20) -> object:
    """Waits until the check gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.1)
    return found


async def test_a_second_reconcile_makes_no_write_nor_does_a_restarted_operator(
    api_server, cluster, restarted, redis_url
):
    pipeline = applied(api_server, manifest("once"))
    plane = restarted(cluster, redis_url)
    first = await plane.reconcile(pipeline)
    assert first.clean
    assert first.writes > 4
    written = versions(api_server, "once")
    assert set(written) == {
        "Deployment/once-thumbnail",
        "Deployment/once-transcode",
        "Secret/once-headgate-redis",
        "ServiceAccount/once-workers",
    }
    for again in (plane, restarted(cluster, redis_url)):
        assert (await again.reconcile(pipeline)).writes == 0
        assert versions(api_server, "once") == written


async def test_branches_that_push_are_written_once_too(api_server, cluster, restarted, redis_url):
    signed = {"url": "https://hooks.example", "signingSecretRef": {"name": "hooks"}}
    branches = {
        "hook": {"handler": {"http": signed}},
        "own": {"handler": {"container": {"image": "own:1", "args": ["--quiet"]}}},
    }
    pipeline = applied(api_server, manifest("pushes", **branches))
    plane = restarted(cluster, redis_url)
    assert (await plane.reconcile(pipeline)).workers.reason == "NoWorkerImage"
    plane = restarted(cluster, redis_url, "headgate/worker:1")
    first = await plane.reconcile(pipeline)
    assert first.clean
    assert first.writes
    written = versions(api_server, "pushes")
    assert {"Deployment/pushes-hook", "Deployment/pushes-own"} <= set(written)
    for again in (plane, restarted(cluster, redis_url, "headgate/worker:1")):
        assert (await again.reconcile(pipeline)).writes == 0
        assert versions(api_server, "pushes") == written


async def test_a_pass_killed_after_any_call_is_made_good_by_the_next(
    api_server, cluster, restarted, redis_url
):
    pipeline = applied(api_server, manifest("whole"))
    await restarted(cluster, redis_url).reconcile(pipeline)
    wanted = essence(api_server, "whole")
    dying = DyingCluster(cluster.configuration)
    try:
        for calls in range(50):
            name = f"killed-{calls}"
            pipeline = applied(api_server, manifest(name))
            dying.calls_left = calls
            with contextlib.suppress(asyncio.CancelledError):
                await restarted(dying, redis_url).reconcile(pipeline)
            finished = dying.calls_left > 0
            findings = await restarted(cluster, redis_url).reconcile(pipeline)
            assert findings.clean
            assert essence(api_server, name) == wanted, f"killed after {calls} calls"
            # Nobody runs yet, so nothing holds it; the operators of the tests below need not keep it.
            assert api_server.kubectl("delete", "fanoutpipeline", name).returncode == 0
            if finished:
                break
        else:
            pytest.fail("a pass takes 50 calls")
    finally:
        await dying.aclose()
    assert calls > 5


async def test_replicas_start_at_the_minimum_and_belong_to_the_pilot(
    api_server, cluster, restarted, redis_url
):
    given = manifest("sized", idle={}, busy={"scale": {"min": 2, "max": 5}})
    plane = restarted(cluster, redis_url)
    findings = await plane.reconcile(applied(api_server, given))
    assert replicas(api_server, "sized") == {"idle": 0, "busy": 2}
    # A change of the spec before the pilot has ever scaled keeps them, and so does one after.
    for concurrency, scaled in ((2, None), (3, 4), (4, None)):
        if scaled is not None:
            await plane.substrate.scale(findings.pipeline, "idle", scaled, {})
        for branch in given["spec"]["branches"]:
            branch["concurrency"] = concurrency
        findings = await plane.reconcile(applied(api_server, given))
        assert findings.writes == 2
        assert replicas(api_server, "sized")["busy"] == 2
    assert replicas(api_server, "sized")["idle"] == 4
    observed = await plane.substrate.observe(findings.pipeline)
    assert {branch: workers.desired for branch, workers in observed.items()} == {"idle": 4, "busy": 2}


async def test_a_pipeline_made_again_starts_at_the_minimum_whatever_the_one_before_had(
    api_server, cluster, restarted, redis_url
):
    given = manifest("again", idle={}, busy={"scale": {"min": 2, "max": 5}})
    plane = restarted(cluster, redis_url)
    findings = await plane.reconcile(applied(api_server, given))
    for branch in ("idle", "busy"):
        await plane.substrate.scale(findings.pipeline, branch, 4, {})
    # Nobody collects garbage here: the Deployments of the one before are still there.
    assert api_server.kubectl("delete", "fanoutpipeline", "again").returncode == 0
    assert replicas(api_server, "again") == {"idle": 4, "busy": 4}
    await restarted(cluster, redis_url).reconcile(applied(api_server, given))
    assert replicas(api_server, "again") == {"idle": 0, "busy": 2}


async def test_scale_in_makes_the_idle_pods_the_cheapest_to_delete(api_server, cluster, restarted, redis_url):
    plane = restarted(cluster, redis_url)
    given = manifest("priced", only={"scale": {"min": 3, "max": 3}})
    findings = await plane.reconcile(applied(api_server, given))
    (deployment,) = listed(api_server, "deployments", "priced")
    for name in ("busy", "idle", "freed"):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        pod["metadata"]["labels"] = deployment["spec"]["template"]["metadata"]["labels"]
        applied(api_server, pod | {"spec": deployment["spec"]["template"]["spec"]})
    await plane.substrate.scale(findings.pipeline, "only", 2, {"busy": 7, "freed": 1, "gone": 3})
    await plane.substrate.scale(findings.pipeline, "only", 1, {"busy": 5})
    found = {pod["metadata"]["name"]: pod["metadata"] for pod in listed(api_server, "pods", "priced")}
    costs = {
        name: metadata.get("annotations", {}).get("controller.kubernetes.io/pod-deletion-cost")
        for name, metadata in found.items()
    }
    assert costs == {"busy": "5", "idle": None, "freed": "0"}
    assert replicas(api_server, "priced") == {"only": 1}


async def test_a_branch_that_is_no_more_loses_its_deployment_and_its_groups(
    api_server, cluster, restarted, redis_url
):
    plane = restarted(cluster, redis_url)
    await plane.reconcile(applied(api_server, manifest("shrunk", kept={}, gone={})))
    await plane.reconcile(applied(api_server, manifest("shrunk", kept={})))
    assert replicas(api_server, "shrunk") == {"kept": 0}
    with redis.Redis.from_url(redis_url) as server:
        groups = server.xinfo_groups("hg:{default/shrunk:0}:normal")
    assert [group["name"] for group in groups] == [b"kept"]


async def test_what_somebody_changes_by_hand_is_put_right(api_server, cluster, restarted, redis_url):
    plane = restarted(cluster, redis_url)
    pipeline = applied(api_server, manifest("drifted", only={}))
    await plane.reconcile(pipeline)
    edit = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
    assert api_server.kubectl("patch", "deployment", "drifted-only", "-p", json.dumps(edit)).returncode == 0
    assert (await plane.reconcile(pipeline)).writes == 1
    (deployment,) = listed(api_server, "deployments", "drifted")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 1


async def test_an_object_of_somebody_else_is_left_alone(api_server, cluster, restarted, redis_url):
    assert api_server.kubectl("create", "deployment", "shop-front", "--image=nginx:1").returncode == 0
    findings = await restarted(cluster, redis_url).reconcile(applied(api_server, manifest("shop", front={})))
    assert findings.workers.reason == "NameTaken"
    assert "Deployment shop-front" in findings.workers.message
    found = json.loads(api_server.kubectl("get", "deployment", "shop-front", "-o", "json").stdout)
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"


async def test_a_missing_secret_is_named_with_what_to_do(api_server, cluster, restarted):
    given = manifest("secretive")
    given["spec"]["redis"] = {"secretRef": {"name": "nowhere"}}
    findings = await restarted(cluster, None).reconcile(applied(api_server, given))
    assert findings.redis.reason == "SecretNotFound"
    assert "'nowhere'" in findings.redis.message
    assert "'url'" in findings.redis.message


def documented_rules() -> list[list[dict[str, Any]]]:
    """The rules of each table of docs/reference/rbac.md: in every namespace, and in the operator's own."""
    tables: list[list[dict[str, Any]]] = []
    for line in RBAC.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith("| API group"):
            tables.append([])
        elif line.startswith("|") and not line.startswith("|-"):
            group, resource, verbs = cells
            tables[-1].append(
                {
                    "apiGroups": ["" if group == "core" else group],
                    "resources": [resource],
                    "verbs": verbs.split(", "),
                }
            )
    return tables


def kubeconfig_of_operator(server: ApiServer, *, everywhere: bool) -> Path:
    """A kubeconfig that may do what the documentation says the operator does, and nothing else."""
    name = "wide" if everywhere else "narrow"
    own = server.directory / f"{name}-kubeconfig"
    if own.exists():
        return own
    group = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
    work, lease = documented_rules()
    for role, kind, rules in (
        (f"{name}-work", "ClusterRole" if everywhere else "Role", work),
        (f"{name}-lease", "Role", lease),
    ):
        meta = {"name": role} | ({"namespace": "default"} if kind == "Role" else {})
        base = {"apiVersion": f"{group}/v1", "metadata": meta}
        applied(server, base | {"kind": kind, "rules": rules})
        binding = {"subjects": [account], "roleRef": {"apiGroup": group, "kind": kind, "name": role}}
        applied(server, base | {"kind": f"{kind}Binding"} | binding)
    applied(server, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    token = server.kubectl("create", "token", name)
    assert token.returncode == 0, token.stderr
    config = json.loads(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.stdout.strip()}
    own.write_text(json.dumps(config))
    return own


class RunningOperator:
    """`headgate operator` as a process, with the documented rights."""

    def __init__(self, server: ApiServer, redis_url: str, log: Path, namespace: str | None = None) -> None:
        self._log = log
        kubeconfig = kubeconfig_of_operator(server, everywhere=namespace is None)
        scope = ["--namespace", namespace] if namespace is not None else []
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HEADGATE_REDIS_URL": redis_url}
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [HEADGATE, "operator", "--metrics-port", "0", "--health-port", "0", *scope],
                env=environment,
                stderr=sink,
            )

    def told(self, event: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)


@pytest.fixture
def operator(api_server, redis_url, tmp_path) -> Iterator[RunningOperator]:
    running = RunningOperator(api_server, redis_url, tmp_path / "operator.log")
    try:
        yield running
    finally:
        running.stop()
        print((tmp_path / "operator.log").read_text())  # noqa: T201  # pytest shows it when the test fails


def fetched(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def get(server: ApiServer, name: str) -> dict[str, Any]:
    done = server.kubectl("get", "fanoutpipeline", name, "-o", "json", "--show-managed-fields")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def condition(server: ApiServer, name: str, wanted: str) -> str:
    conditions = get(server, name).get("status", {}).get("conditions", [])
    return next((f"{each['status']}/{each['reason']}" for each in conditions if each["type"] == wanted), "")


def events(server: ApiServer, name: str) -> list[str]:
    done = server.kubectl("get", "events.v1.events.k8s.io", "-o", "json")
    found = (item for item in json.loads(done.stdout)["items"] if item["regarding"]["name"] == name)
    return [item["reason"] for item in sorted(found, key=lambda item: item["eventTime"])]


@pytest.mark.usefixtures("operator")
def test_what_goes_wrong_with_streams_is_told(api_server, redis_url):
    applied(api_server, manifest("told", only={}))
    eventually(lambda: condition(api_server, "told", "Ready") == "True/Ready")
    keys = PipelineKeys("default", "told", 1).partition(0)
    with redis.Redis.from_url(redis_url) as server:
        server.flushall()
        eventually(lambda: "GroupsHealed" in events(api_server, "told"))
        server.set(keys.closed("only"), '{"reason": "410 Gone", "target": "https://a", "at": "today"}')
        eventually(lambda: condition(api_server, "told", "BranchClosed") == "True/TargetGone")
        server.delete(keys.closed("only"))
        eventually(lambda: condition(api_server, "told", "BranchClosed") == "False/Open")
        server.hincrby(keys.stats, "unread_trimmed:only", 5)
        eventually(lambda: condition(api_server, "told", "EventsTrimmed") == "True/RetentionExceeded")
    found = get(api_server, "told")["status"]
    assert [branch["unreadTrimmed"] for branch in found["branches"]] == [5]
    said = events(api_server, "told")
    assert [said.count(reason) for reason in ("BranchClosed", "BranchOpened", "EventsTrimmed")] == [1, 1, 1]


@pytest.mark.usefixtures("operator")
def test_a_filter_that_does_not_compile_is_told_and_the_workers_stay_as_they_were(api_server):
    given = manifest("sieved", only={"filter": "event.type == 'a'"})
    applied(api_server, given)
    eventually(lambda: condition(api_server, "sieved", "Ready") == "True/Ready")
    before = versions(api_server, "sieved")
    given["spec"]["branches"][0]["filter"] = "event.typ == 'a'"
    applied(api_server, given)
    eventually(lambda: condition(api_server, "sieved", "SpecValid") == "False/Invalid")
    conditions = get(api_server, "sieved")["status"]["conditions"]
    (message,) = [each["message"] for each in conditions if each["type"] == "SpecValid"]
    assert "spec.branches[0].filter: Invalid value: \"event.typ == 'a'\": " in message
    assert versions(api_server, "sieved") == before


def test_from_apply_to_delete(api_server, operator, redis_url):
    started = time.monotonic()
    applied(api_server, manifest("living"))
    eventually(lambda: condition(api_server, "living", "Ready") == "True/Ready")
    print(f"apply to Ready: {time.monotonic() - started:.1f} s")  # noqa: T201
    found = get(api_server, "living")
    assert found["metadata"]["finalizers"] == ["headgate.dev/cleanup"]
    assert not any(key.startswith("headgate.dev/") for key in found["metadata"].get("annotations", {}))
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert [branch["backlog"] for branch in found["status"]["branches"]] == [0, 0]

    before = (versions(api_server, "living"), found["metadata"]["resourceVersion"])
    time.sleep(5)
    after = (versions(api_server, "living"), get(api_server, "living")["metadata"]["resourceVersion"])
    assert after == before, "an idle pipeline is written to"

    (ports,) = operator.told("serving")
    assert fetched(ports["health_port"], "/healthz") == fetched(ports["health_port"], "/readyz") == "ok"
    backlog = 'headgate_branch_backlog_events{branch="transcode",namespace="default",pipeline="living"} 0.0'
    assert backlog in fetched(ports["metrics_port"], "/metrics").splitlines()

    assert events(api_server, "living") == ["Ready"]
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys("hg:{default/living:*")
    assert api_server.kubectl("delete", "fanoutpipeline", "living", "--timeout=30s").returncode == 0
    assert replicas(api_server, "living") == {}
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys("hg:{default/living:*") == []


def test_an_operator_killed_at_any_time_is_replaced_and_finishes_a_delete(
    api_server, operator, redis_url, tmp_path
):
    applied(api_server, manifest("orphan"))
    eventually(lambda: condition(api_server, "orphan", "Ready") == "True/Ready")
    operator.stop(signal.SIGKILL)
    assert api_server.kubectl("delete", "fanoutpipeline", "orphan", "--wait=false").returncode == 0
    assert get(api_server, "orphan")["metadata"]["deletionTimestamp"]
    successor = RunningOperator(api_server, redis_url, tmp_path / "successor.log")
    try:
        # The Lease of the one that was killed has to run out first.
        eventually(lambda: not get(api_server, "orphan"), 40)
        with redis.Redis.from_url(redis_url) as server:
            assert server.keys("hg:{default/orphan:*") == []
        assert replicas(api_server, "orphan") == {}
    finally:
        assert successor.stop() == 0


def test_redis_gone_shows_in_the_status_and_does_not_hold_a_delete(api_server, tmp_path):
    with redis7() as url:
        running = RunningOperator(api_server, url, tmp_path / "operator.log")
        applied(api_server, manifest("bereft"))
        eventually(lambda: condition(api_server, "bereft", "Ready") == "True/Ready")
    try:
        eventually(lambda: condition(api_server, "bereft", "RedisReachable") == "False/ServerUnavailable")
        assert condition(api_server, "bereft", "ScalingActive") == "False/BacklogUnknown"
        assert condition(api_server, "bereft", "Ready") == "False/ServerUnavailable"
        assert api_server.kubectl("delete", "fanoutpipeline", "bereft", "--timeout=40s").returncode == 0
        assert replicas(api_server, "bereft") == {}
        told = events(api_server, "bereft")
        assert told[0] == "Ready"
        assert "RedisUnreachable" in told
        assert told[-2:] == ["KeysLeft", "UserLeft"]
    finally:
        assert running.stop() == 0


def test_the_second_operator_leads_as_soon_as_the_first_stops(api_server, operator, redis_url, tmp_path):
    eventually(lambda: operator.told("leading"))
    second = RunningOperator(api_server, redis_url, tmp_path / "second.log")
    try:
        eventually(lambda: second.told("waiting to lead"))
        time.sleep(3)
        assert not second.told("leading")
        assert operator.stop() == 0
        stopped = time.monotonic()
        eventually(lambda: second.told("leading"))
        assert time.monotonic() - stopped < 5
    finally:
        assert second.stop() == 0


def test_an_operator_of_one_namespace_needs_no_right_beyond_it(api_server, redis_url, tmp_path):
    assert api_server.kubectl("create", "namespace", "elsewhere").returncode == 0
    other = manifest("foreign")
    other["metadata"]["namespace"] = "elsewhere"
    applied(api_server, other)
    applied(api_server, manifest("local"))
    running = RunningOperator(api_server, redis_url, tmp_path / "operator.log", namespace="default")
    try:
        eventually(lambda: condition(api_server, "local", "Ready") == "True/Ready")
        assert api_server.kubectl("delete", "fanoutpipeline", "local", "--timeout=30s").returncode == 0
        untouched = api_server.kubectl("-n", "elsewhere", "get", "fanoutpipeline", "foreign", "-o", "json")
        assert "finalizers" not in json.loads(untouched.stdout)["metadata"]
    finally:
        assert running.stop() == 0
