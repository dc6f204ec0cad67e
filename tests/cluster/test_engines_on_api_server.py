"""Branches that KEDA, an autoscaler or nobody scales: on a real API server, by KEDA's own schema and protocol."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_tools import protoc

from headgate.event import NewEvent
from headgate.streams import BranchMeasurement, Publisher, Server
from headgate_operator import engines
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.cluster import Cluster
from headgate_operator.flight import Flight
from headgate_operator.pipeline import Pipeline, load_pipeline
from headgate_operator.problem import Problem
from headgate_operator.scaling import Scaling
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from streams.servers import free_port, redis7

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from cluster.apiserver import ApiServer

ROOT = Path(__file__).parents[2]
ADDRESS = "headgate-scaler.headgate:6000"
SPACE = "engines"
OWN_REDIS = "redis://127.0.0.1:1"
WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def keda() -> Path:
    """The folder with what KEDA itself says: its CRD and its protocol."""
    done = subprocess.run([ROOT / "hack/keda-crd"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


@pytest.fixture
def space(api_server: ApiServer) -> Iterator[ApiServer]:
    """The API server with a namespace for these tests, of which nothing stays."""
    if api_server.kubectl("get", "namespace", SPACE).returncode:
        assert api_server.kubectl("create", "namespace", SPACE).returncode == 0
    yield api_server
    # Nobody collects what a deleted owner leaves behind: there is no controller manager.
    kinds = "fanoutpipelines,deployments,serviceaccounts,secrets,horizontalpodautoscalers"
    for what in (kinds, "scaledobjects.keda.sh"):
        api_server.kubectl("-n", SPACE, "delete", what, "--all", "--wait=false")


@pytest.fixture
def with_keda(space: ApiServer, keda: Path) -> ApiServer:
    install_keda(space, keda)
    return space


def install_keda(server: ApiServer, keda: Path) -> None:
    done = server.kubectl("apply", "--server-side", "-f", str(keda / "scaledobjects.yaml"))
    assert done.returncode == 0, done.stderr
    name = "crd/scaledobjects.keda.sh"
    assert server.kubectl("wait", "--for=condition=Established", name).returncode == 0
    server.await_explained("scaledobject")


class CountingCluster(Cluster):
    """Remembers its calls; `before` runs ahead of the next one that it says it is for."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self.calls: list[str] = []
        self.before: dict[str, Any] = {}

    async def _call(self, method: str, where: str, *arguments: Any) -> dict[str, Any]:
        self.calls.append(f"{method} {where}")
        for ending in [ending for ending in self.before if f"{method} {where}".endswith(ending)]:
            self.before.pop(ending)()
        return await super()._call(method, where, *arguments)


@pytest.fixture
async def api(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CountingCluster]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    connected = await CountingCluster.connect()
    yield connected
    await connected.aclose()


def place(api: Cluster, address: str | None = ADDRESS) -> KubernetesSubstrate:
    """An operator's memory as it is at its start."""
    return KubernetesSubstrate(api, OWN_REDIS, scaler_address=address)


def manifest(name: str, *branches: dict[str, Any], **spec: Any) -> dict[str, Any]:
    python = {"python": {"image": "videos:1", "function": "videos:work"}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": SPACE, "name": name},
        "spec": {"branches": [{"name": "work", "handler": python} | b for b in branches or ({},)]} | spec,
    }


def engine(which: str, **scale: Any) -> dict[str, Any]:
    return {"scale": {"engine": which, "min": 0, "max": 20} | scale}


def applied(server: ApiServer, given: dict[str, Any]) -> Pipeline:
    done = server.kubectl("apply", "-o", "json", "-f", "-", given=given)
    assert done.returncode == 0, done.stderr
    return load_pipeline(json.loads(done.stdout))


def get(server: ApiServer, what: str, name: str) -> dict[str, Any]:
    done = server.kubectl("-n", SPACE, "get", what, name, "-o", "json")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def replicas(server: ApiServer, name: str) -> int:
    return get(server, "deployment", name)["spec"]["replicas"]


def scale(server: ApiServer, name: str, count: int) -> None:
    """As KEDA, an autoscaler and people do: by the scale subresource."""
    done = server.kubectl("-n", SPACE, "scale", f"deployment/{name}", f"--replicas={count}")
    assert done.returncode == 0, done.stderr


def made(server: ApiServer, name: str) -> set[str]:
    """The engines' objects of that name that there are."""
    return {
        found["kind"]
        for what in ("scaledobjects.keda.sh", "horizontalpodautoscalers")
        if (found := get(server, what, name))
    }


def test_kedas_own_schema_takes_our_scaled_object_to_the_letter(with_keda):
    pipeline = applied(with_keda, manifest("strict", engine("Keda", min=2)))
    (ours,) = engines.manifests(pipeline, ADDRESS)
    taken = with_keda.kubectl("create", "--validate=strict", "--dry-run=server", "-f", "-", given=ours)
    assert taken.returncode == 0, taken.stderr


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("spec", "minReplicas"), 1, 'unknown field "spec.minReplicas"'),
        (("spec", "minReplicaCount"), 21, "minReplicaCount must be less than or equal to maxReplicaCount"),
        (("spec", "triggers"), [], "spec.triggers"),
        (("spec", "advanced"), {"horizontalPodAutoscalerConfig": {"behaviour": {}}}, "behaviour"),
    ],
    ids=["misspelt", "minimum above maximum", "no trigger", "misspelt further in"],
)
def test_kedas_own_schema_refuses_what_is_wrong_with_one(with_keda, path, value, complaint):
    pipeline = applied(with_keda, manifest("strict", engine("Keda")))
    (ours,) = engines.manifests(pipeline, ADDRESS)
    ours[path[0]][path[1]] = value
    refused = with_keda.kubectl("create", "--validate=strict", "--dry-run=server", "-f", "-", given=ours)
    assert refused.returncode != 0
    assert complaint in refused.stderr


async def test_what_engines_need_is_written_once_also_by_a_restarted_operator(with_keda, api):
    branches = [engine(which) | {"name": which.lower()} for which in ("Keda", "Hpa", "None")]
    pipeline = applied(with_keda, manifest("once", *branches))
    first = place(api)
    assert await first.apply(pipeline) == 2 + 3 + 2  # account and Secret, Deployments, engines' objects
    assert made(with_keda, "once-keda") == {"ScaledObject"}
    assert made(with_keda, "once-hpa") == {"HorizontalPodAutoscaler"}
    assert made(with_keda, "once-none") == set()
    for again in (first, place(api)):
        assert await again.apply(pipeline) == 0


async def test_another_engine_takes_over_without_a_jump(with_keda, api):
    pilot = place(api)
    await pilot.apply(applied(with_keda, manifest("moves", engine("Pilot"))))
    pipeline = applied(with_keda, manifest("moves", engine("Pilot")))
    await pilot.scale(pipeline, "work", 7, {})
    running = 7
    for number, (which, kinds) in enumerate(
        [
            ("Keda", {"ScaledObject"}),
            ("Hpa", {"HorizontalPodAutoscaler"}),
            ("Keda", {"ScaledObject"}),
            ("None", set()),
            ("Hpa", {"HorizontalPodAutoscaler"}),
            ("Pilot", set()),
        ]
    ):
        # The manifest changes otherwise too, so that the Deployment is applied.
        pipeline = applied(with_keda, manifest("moves", engine(which) | {"concurrency": number + 1}))
        for operator in (pilot, place(api)):
            await operator.apply(pipeline)
            assert replicas(with_keda, "moves-work") == running, which
            assert made(with_keda, "moves-work") == kinds
        running = 3 + number
        if which == "Pilot":
            await pilot.scale(pipeline, "work", running, {})
        else:
            scale(with_keda, "moves-work", running)
        await pilot.apply(pipeline)
        assert replicas(with_keda, "moves-work") == running, which


async def test_a_new_deployment_that_is_scaled_between_our_look_and_our_apply_stays_as_it_was_scaled(
    with_keda, api
):
    pipeline = applied(with_keda, manifest("raced", engine("Keda")))
    operator = place(api)
    await operator.apply(pipeline)
    pipeline = applied(with_keda, manifest("raced", engine("Keda") | {"concurrency": 2}))
    api.before["PATCH " + f"/apis/apps/v1/namespaces/{SPACE}/deployments/raced-work"] = lambda: scale(
        with_keda, "raced-work", 9
    )
    await operator.apply(pipeline)
    assert api.before == {}
    assert replicas(with_keda, "raced-work") == 9
    contract = json.dumps(get(with_keda, "deployment", "raced-work")["spec"]["template"])
    assert '\\"concurrency\\":2' in contract


async def test_an_autoscaler_is_never_left_at_zero_where_it_is_switched_off(space, api):
    operator = place(api)
    await operator.apply(applied(space, manifest("asleep", engine("Pilot"))))
    assert replicas(space, "asleep-work") == 0
    pipeline = applied(space, manifest("asleep", engine("Hpa")))
    await operator.apply(pipeline)
    assert replicas(space, "asleep-work") == 1
    await operator.apply(applied(space, manifest("awake", engine("Hpa", min=2))))
    assert replicas(space, "awake-work") == 2


async def test_a_paused_branch_is_handed_to_the_pilot_and_back(with_keda, api):
    operator = place(api)
    await operator.apply(applied(with_keda, manifest("rests", engine("Keda"))))
    assert (await operator.observe(applied(with_keda, manifest("rests", engine("Keda")))))["work"].foreign
    scale(with_keda, "rests-work", 4)
    paused = applied(with_keda, manifest("rests", engine("Keda") | {"paused": True}))
    await operator.apply(paused)
    assert made(with_keda, "rests-work") == set()
    assert not (await operator.observe(paused))["work"].foreign
    await operator.apply(applied(with_keda, manifest("rests", engine("Keda"))))
    assert made(with_keda, "rests-work") == {"ScaledObject"}
    assert replicas(with_keda, "rests-work") == 4


async def test_keda_that_is_not_installed_is_told_and_keeps_nothing_else_from_being_made(space, api, keda):
    space.kubectl("delete", "crd", "scaledobjects.keda.sh", "--ignore-not-found")
    pipeline = applied(
        space,
        manifest(
            "early", engine("Keda"), engine("Hpa") | {"name": "other"}, engine("Pilot") | {"name": "own"}
        ),
    )
    operator = place(api)
    for _ in range(2):
        with pytest.raises(Problem) as raised:
            await operator.apply(pipeline)
        assert raised.value.reason == "KedaNotInstalled"
        assert "install KEDA" in raised.value.message
    assert all(get(space, "deployment", f"early-{name}") for name in ("work", "other", "own"))
    assert made(space, "early-other") == {"HorizontalPodAutoscaler"}
    install_keda(space, keda)
    await operator.apply(pipeline)
    assert made(space, "early-work") == {"ScaledObject"}


async def test_a_pipeline_without_engines_pays_one_list_a_namespace_and_kind_and_only_after_a_start(
    with_keda, api
):
    pipelines = [applied(with_keda, manifest(f"plain-{number}")) for number in range(3)]
    operator = place(api)

    async def lists() -> list[str]:
        api.calls.clear()
        for pipeline in pipelines:
            await operator.apply(pipeline)
        return [call for call in api.calls if "scaledobject" in call or "horizontal" in call]

    assert len(await lists()) == 2
    assert await lists() == []


async def test_what_a_killed_operator_had_made_is_found_and_removed_by_the_next(with_keda, api):
    branches = [engine("Keda") | {"name": "one"}, engine("Hpa") | {"name": "two"}]
    await place(api).apply(applied(with_keda, manifest("left", *branches)))
    pipeline = applied(with_keda, manifest("left", {"name": "one"}, {"name": "two"}))
    operator = place(api)
    assert await operator.apply(pipeline) == 2
    assert made(with_keda, "left-one") == made(with_keda, "left-two") == set()
    assert await operator.apply(pipeline) == 0


async def test_a_branch_that_goes_takes_its_engine_with_it(with_keda, api):
    operator = place(api)
    branches = [engine("Keda") | {"name": "one"}, engine("Keda") | {"name": "two"}]
    await operator.apply(applied(with_keda, manifest("shrinks", *branches)))
    await operator.apply(applied(with_keda, manifest("shrinks", branches[0])))
    assert made(with_keda, "shrinks-one") == {"ScaledObject"}
    assert made(with_keda, "shrinks-two") == set()


async def test_the_secret_of_the_operators_own_server_goes_when_the_pipeline_names_another(space, api):
    operator = place(api)
    await operator.apply(applied(space, manifest("moved")))
    assert get(space, "secret", "moved-headgate-redis")
    assert (
        space.kubectl(
            "-n", SPACE, "create", "secret", "generic", "theirs", "--from-literal=url=redis://x"
        ).returncode
        == 0
    )
    pipeline = applied(space, manifest("moved", redis={"secretRef": {"name": "theirs"}}))
    await place(api).apply(pipeline)
    assert get(space, "secret", "moved-headgate-redis") == {}
    assert get(space, "secret", "theirs")


@pytest.mark.parametrize(
    "labels", [{}, {"headgate.dev/pipeline": "taken", "app.kubernetes.io/managed-by": "headgate"}]
)
async def test_an_autoscaler_of_somebody_else_is_left_alone(space, api, labels):
    theirs = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": SPACE, "name": "taken-work", "labels": labels}
        | {
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "x", "controller": True}
            ]
        },
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"},
        },
    }
    created = space.kubectl("create", "-f", "-", given=theirs)
    assert created.returncode == 0, created.stderr
    with pytest.raises(Problem) as raised:
        await place(api).apply(applied(space, manifest("taken", engine("Hpa"))))
    assert raised.value.reason == "NameTaken"
    await place(api).apply(applied(space, manifest("taken", engine("Pilot"))))
    assert get(space, "horizontalpodautoscaler", "taken-work")["spec"]["maxReplicas"] == 3


async def test_an_engines_object_that_somebody_edits_is_put_right(space, api):
    operator = place(api)
    pipeline = applied(space, manifest("edited", engine("Hpa")))
    await operator.apply(pipeline)
    edit = json.dumps({"spec": {"maxReplicas": 90}})
    assert space.kubectl("-n", SPACE, "patch", "hpa", "edited-work", "-p", edit).returncode == 0
    assert await operator.apply(pipeline) == 1
    assert get(space, "hpa", "edited-work")["spec"]["maxReplicas"] == 20


def pod_costs(server: ApiServer, names: Sequence[str]) -> list[str | None]:
    found = (get(server, "pod", name)["metadata"].get("annotations", {}) for name in names)
    return [annotations.get("controller.kubernetes.io/pod-deletion-cost") for annotations in found]


@pytest.mark.parametrize("which", ["Keda", "Hpa"])
async def test_before_another_engine_stops_workers_the_idle_ones_are_made_the_cheapest(with_keda, api, which):
    operator, word = place(api), which.lower()
    pipeline = applied(with_keda, manifest(f"priced-{word}", engine(which, scaleDownAfterSeconds=0)))
    await operator.apply(pipeline)
    scale(with_keda, f"priced-{word}-work", 3)
    await operator.apply(pipeline)
    template = get(with_keda, "deployment", f"priced-{word}-work")["spec"]["template"]
    names = [f"{word}-{what}" for what in ("busy", "idle", "freed")]
    for name in names:
        metadata = {"namespace": SPACE, "name": name, "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        done = with_keda.kubectl("apply", "-f", "-", given=pod)
        assert done.returncode == 0, done.stderr
    flight, scaling = Flight(pipeline), Scaling(operator)
    (branch,) = pipeline.spec.branches

    async def tick(now: float, **holding: int) -> list[str]:
        """What the API server is asked for in a tick at which somebody holds something."""
        flight.branches["work"].workers = (await operator.observe(pipeline))["work"]
        api.calls.clear()
        held = {f"{word}-{name}": events for name, events in holding.items()}
        found = BranchMeasurement(pending=sum(held.values()), holding=held)
        await scaling.scale(flight, branch, found, 100, now)
        assert not flight.errors
        return [call.partition(" ")[0] for call in api.calls]

    assert await tick(1, busy=3, freed=2) == ["GET", "PATCH", "PATCH"]
    assert pod_costs(with_keda, names) == ["3", None, "2"]
    assert await tick(7, busy=3, freed=2) == [], "nothing changed"
    assert await tick(8, busy=3, freed=0) == ["GET", "PATCH"]
    assert pod_costs(with_keda, names) == ["3", None, "0"]
    assert replicas(with_keda, f"priced-{word}-work") == 3, "that is for the engine"
    scale(with_keda, f"priced-{word}-work", 1)
    await operator.apply(pipeline)
    operator.saw("MODIFIED", get(with_keda, "deployment", f"priced-{word}-work"))
    assert await tick(20, busy=1) == [], "no fewer are wanted than there are"


class KedaClient:
    """Stubs compiled from KEDA's own protocol."""

    def __init__(self, keda: Path, work: Path, port: int) -> None:
        name = "externalscaler.proto"
        arguments = ["protoc", f"-I{keda}", f"--python_out={work}", f"--grpc_python_out={work}", name]
        assert protoc.main(arguments) == 0
        sys.path.insert(0, str(work))
        try:
            self.messages = importlib.import_module("externalscaler_pb2")
            services = importlib.import_module("externalscaler_pb2_grpc")
        finally:
            sys.path.remove(str(work))
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.calls = services.ExternalScalerStub(self.channel)

    def reference(self, server: ApiServer, name: str) -> Any:
        """As KEDA makes it from the ScaledObject that is there."""
        found = get(server, "scaledobjects.keda.sh", name)
        (trigger,) = found["spec"]["triggers"]
        return self.messages.ScaledObjectRef(name=name, namespace=SPACE, scalerMetadata=trigger["metadata"])


async def eventually(check: Any) -> Any:
    """Waits until the check, which may fail with a gRPC error, gives something true."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                if found := await check():
                    return found
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017
            await asyncio.sleep(0.1)


def started(server: ApiServer, url: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """An operator of these tests' namespace that serves KEDA at a port."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(server.kubeconfig),
        "HEADGATE_REDIS_URL": url,
        "HEADGATE_SCALER_ADDRESS": f"127.0.0.1:{port}",
    }
    command = [str(Path(sys.executable).with_name("headgate")), "operator", "--namespace", SPACE]
    command += ["--metrics-port", "0", "--health-port", "0", "--scaler-port", str(port)]
    with log.open("wb") as sink:
        return subprocess.Popen(command, env=environment, stderr=sink)


async def test_kedas_own_client_is_answered_by_the_operator_from_first_event_to_lost_server(
    with_keda, keda, tmp_path
):
    port = free_port()
    with redis7() as url:
        pipeline = applied(with_keda, manifest("asked", engine("Keda")))
        operator = started(with_keda, url, port, tmp_path / "operator.log")
        client = KedaClient(keda, tmp_path, port)
        try:
            await eventually(lambda: _true(made(with_keda, "asked-work")))
            reference = client.reference(with_keda, "asked-work")
            spec = await eventually(lambda: client.calls.GetMetricSpec(reference))
            assert [(each.metricName, each.targetSize) for each in spec.metricSpecs] == [
                ("headgate-workers", 1)
            ]
            pushed = client.calls.StreamIsActive(reference)
            assert (await pushed.read()).result is False
            assert (await client.calls.IsActive(reference)).result is False
            server = Server.connect(url)
            await Publisher(server, pipeline.keys).publish([NewEvent(data=n) for n in range(80)])
            assert (await pushed.read()).result is True
            assert (await client.calls.IsActive(reference)).result is True
            request = client.messages.GetMetricsRequest(
                scaledObjectRef=reference, metricName="headgate-workers"
            )
            (value,) = (await client.calls.GetMetrics(request)).metricValues
            assert value.metricValue == 80 / 8  # nothing was settled yet: a slot for each event
            # The pilot itself leaves it alone: that is for KEDA.
            assert replicas(with_keda, "asked-work") == 0
            await server.aclose()
        except BaseException:
            operator.kill()
            print((tmp_path / "operator.log").read_text())  # noqa: T201  # pytest shows it when the test fails
            raise
    try:
        with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012
            async with asyncio.timeout(WAIT_SECONDS):
                while (await client.calls.IsActive(reference)).result:  # noqa: ASYNC110  # KEDA asks again and again
                    await asyncio.sleep(0.2)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "unknown" in raised.value.details()
        operator.terminate()
        assert await pushed.read() is grpc.aio.EOF
        status = await asyncio.to_thread(operator.wait, WAIT_SECONDS)
        assert status == 0, (tmp_path / "operator.log").read_text()
    finally:
        operator.kill()
        await client.channel.close()


async def test_only_the_operator_that_leads_listens_and_the_next_one_does_when_it_leads(
    with_keda, keda, tmp_path
):
    ports = [free_port(), free_port()]
    applied(with_keda, manifest("handed", engine("Keda")))
    running: list[subprocess.Popen[bytes]] = []
    clients = [KedaClient(keda, tmp_path, port) for port in ports]
    with redis7() as url:
        try:
            running.append(started(with_keda, url, ports[0], tmp_path / "first.log"))
            await eventually(lambda: _true(made(with_keda, "handed-work")))
            reference = clients[0].reference(with_keda, "handed-work")
            await eventually(lambda: clients[0].calls.GetMetricSpec(reference))
            pushed = clients[0].calls.StreamIsActive(reference)
            assert (await pushed.read()).result is False
            running.append(started(with_keda, url, ports[1], tmp_path / "second.log"))
            second = tmp_path / "second.log"
            await eventually(lambda: _true("waiting to lead" in second.read_text()))
            with pytest.raises(grpc.aio.AioRpcError):
                await clients[1].calls.GetMetricSpec(reference)
            running[0].terminate()
            assert await pushed.read() is grpc.aio.EOF
            await eventually(lambda: clients[1].calls.IsActive(reference))
        finally:
            for process in running:
                process.terminate()
            for process in running:
                await asyncio.to_thread(process.wait, WAIT_SECONDS)
            for client in clients:
                await client.channel.close()


async def _true(found: Any) -> Any:
    return found
