"""The state of a pipeline follows from its manifest alone: how it came to it, and how often the operator was replaced
on the way, leaves no trace."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from chaos.operator import state
from chaos.operator.api import PIPELINES, Api
from headgate_operator.cluster import Cluster
from headgate_operator.pilot import Pilot
from headgate_operator.reconcile import Findings, reconcile
from headgate_operator.servers import Servers
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster.apiserver import ApiServer
    from headgate.streams import Server
    from headgate_operator.pipeline import Pipeline

Spec = dict[str, Any]
NAMES = ("thumbnail", "transcode", "notify")
PASSES = 12
"""More than any manifest takes until a pass writes nothing."""
NUMBERS = itertools.count()


def handlers() -> st.SearchStrategy[Spec]:
    python = st.sampled_from(["videos:1", "videos:2"]).map(
        lambda image: {"python": {"image": image, "function": "videos:work"}}
    )
    http = st.sampled_from(["a", "b"]).map(lambda path: {"http": {"url": f"https://hooks.example/{path}"}})
    return python | http


def branches(name: str) -> st.SearchStrategy[Spec]:
    return st.fixed_dictionaries(
        {
            "name": st.just(name),
            "handler": handlers(),
            "scale": st.fixed_dictionaries(
                {"min": st.integers(0, 3), "max": st.integers(3, 5), "scaleDownAfterSeconds": st.just(0)},
                optional={"engine": st.sampled_from(["Pilot", "Hpa"])},
            ),
        },
        optional={
            "filter": st.sampled_from(["event.type == 'a'", "event.type == 'b'"]),
            "ordering": st.sampled_from(["Key", "None"]),
            "paused": st.booleans(),
            "concurrency": st.integers(1, 4),
        },
    )


@st.composite
def specs(draw: st.DrawFn, partitions: int) -> Spec:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    spec: Spec = {
        "source": {"partitions": partitions},
        "branches": [draw(branches(name)) for name in names],
        "onRemove": draw(st.sampled_from(["Drain", "Delete"])),
        "paused": draw(st.sampled_from([False, False, True])),
    }
    if draw(st.booleans()):
        spec["join"] = {"branches": names}
    if draw(st.booleans()):
        level = {"name": "Delay", "lag": draw(st.integers(2, 9)), "releaseLag": 1, "delay": ["Low"]}
        spec["backpressure"] = {"levels": [level]}
    if draw(st.booleans()):
        spec["networkPolicy"] = {"egress": [{"cidr": "10.0.0.0/8"}]}
    return spec


@st.composite
def histories(draw: st.DrawFn) -> list[Spec]:
    # Partitions never shrink.
    sizes = sorted(draw(st.lists(st.integers(1, 2), min_size=2, max_size=4)))
    return [draw(specs(partitions)) for partitions in sizes]


@dataclass
class Plane:
    """One operator's memory: a fresh one is a restarted operator."""

    cluster: Cluster
    url: str
    now: float = 0.0
    substrate: KubernetesSubstrate = field(init=False)
    servers: Servers = field(default_factory=Servers)

    def __post_init__(self) -> None:
        self.substrate = KubernetesSubstrate(self.cluster, self.url, "headgate/worker:1")
        self.pilot = Pilot(self.servers.of, self.substrate, clock=lambda: self.now)

    async def connect(self, pipeline: Pipeline) -> Server:
        return await self.servers.assign(pipeline, (await self.substrate.redis(pipeline)).url)

    async def look(self, manifest: Spec) -> Findings:
        """A pass, and a tick of the pilot: as the keeper does it."""
        findings = await reconcile(manifest, substrate=self.substrate, connect=self.connect)
        if findings.pipeline is not None:
            self.pilot.add(findings.pipeline)
            self.now += 60
            await self.pilot.tick()
        return findings


class World:
    """The API server and Redis, and what one example does to them."""

    def __init__(self, api: Api, cluster: Cluster, url: str) -> None:
        self.api = api
        self.cluster = cluster
        self.url = url

    async def live(self, history: Sequence[Spec], restarts: Sequence[bool]) -> state.State:
        """Applies one spec after the other, each until nothing is left to do, and gives the state then."""
        namespace = f"history-{next(NUMBERS)}"
        await self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        plane = Plane(self.cluster, self.url)
        try:
            for spec, restarted in zip(history, restarts, strict=True):
                manifest = {
                    "apiVersion": "headgate.dev/v1alpha1",
                    "kind": "FanoutPipeline",
                    "metadata": {"namespace": namespace, "name": state.NAME},
                    "spec": spec,
                }
                applied = await self.api.apply(*PIPELINES, manifest)
                if restarted:
                    await plane.servers.aclose()
                    plane = Plane(self.cluster, self.url)
                await self.settle(plane, applied, namespace)
            return await self.seen(namespace)
        finally:
            await plane.servers.aclose()

    async def settle(self, plane: Plane, manifest: Spec, namespace: str) -> None:
        """Passes until one writes nothing; then another, of an operator that knows nothing, writes nothing either."""
        for _ in range(PASSES):
            findings = await plane.look(manifest)
            assert findings.spec is None, findings.spec
            assert findings.redis is None, findings.redis
            assert findings.workers is None, findings.workers
            if findings.writes == 0 and not findings.draining:
                break
        else:
            pytest.fail(f"after {PASSES} passes still {findings.writes} writes, {findings.draining} drain")
        await plane.look(manifest)
        before = await self.versions(namespace)
        another = Plane(self.cluster, self.url)
        try:
            assert (await another.look(manifest)).writes == 0
        finally:
            await another.servers.aclose()
        assert await self.versions(namespace) == before

    async def versions(self, namespace: str) -> dict[str, str]:
        return {
            f"{item['resource']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in await state.observe(self.api, namespace)
        }

    async def seen(self, namespace: str) -> state.State:
        objects = state.of_objects(await state.observe(self.api, namespace), namespace, {"own": self.url})
        for item in objects.values():
            # Who set the number of workers last is history; the number is not.
            del item["metadata"]["managedFields"]
        of_hpa = {
            each["spec"]["scaleTargetRef"]["name"]
            for name, each in objects.items()
            if name.startswith("horizontalpodautoscalers/")
        }
        for name in of_hpa:
            # The number is the HPA's business, and none runs here: an operator keeps whatever it finds.
            del objects[f"deployments/{name}"]["spec"]["replicas"]
        async with redis.asyncio.Redis.from_url(self.url) as client:
            found = await state.of_redis(client, namespace)
        for key in found["keys"].values():
            if key["type"] == "hash":
                # That there were fewer partitions once has to be known for as long as an event may be published twice.
                key["value"] = {
                    name: value
                    for name, value in key["value"].items()
                    if not name.startswith(("grown", "bound:"))
                }
        return {"objects": objects, "redis": found}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis7() as url:
        yield url


@settings(
    max_examples=15,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories(), data=st.data())
def test_any_history_ends_as_its_last_manifest_alone(
    api_server: ApiServer,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    history: list[Spec],
    data: st.DataObject,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    restarts = data.draw(st.lists(st.booleans(), min_size=len(history), max_size=len(history)))

    async def live() -> tuple[state.State, state.State]:
        cluster, api = await Cluster.connect(), Api(api_server.kubeconfig)
        try:
            world = World(api, cluster, redis_url)
            return await world.live(history, restarts), await world.live(history[-1:], [False])
        finally:
            await cluster.aclose()
            await api.aclose()

    found, alone = asyncio.run(live())
    differs = state.difference(alone, found)
    note(differs)
    assert not differs
