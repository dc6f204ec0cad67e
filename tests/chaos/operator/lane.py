"""A lane: one operator at a time with its proxies, two Redis servers, and namespaces of its own.

Lanes run side by side: most of their time is waiting.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from typing import TYPE_CHECKING, Any

import redis.asyncio

from chaos.operator import nursery, state
from chaos.operator.api import PIPELINES
from chaos.operator.controllers import act
from chaos.operator.fate import Fate
from chaos.operator.kube_proxy import KubeProxy
from chaos.operator.redis_proxy import RedisProxy
from chaos.operator.script import World
from chaos.operator.weather import Kind, Weather
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

    from chaos.operator.api import Api, Manifest
    from chaos.operator.fate import Point
    from chaos.operator.script import Change
    from chaos.operator.state import State

LETTERS = ("a", "b")
QUIET_SECONDS = 2.0
"""Without any change: longer than every period of the operator, by our clock."""
_POLL_SECONDS = 0.08
_STEADY_SECONDS = 0.2


class UnsettledError(Exception):
    """The state keeps changing."""


class Lane:
    """`open` gives one that is ready; `enter` a new namespace before each walk."""

    def __init__(self, api: Api, folder: Path, ports: dict[str, int], base_ms: int, pace: float) -> None:
        self._api = api
        self._folder = folder
        self.pace = pace
        self._base_ms = base_ms
        self.fate = Fate()
        self.kube = KubeProxy(api, self.fate, Weather(Kind.FAIR, "", pace))
        self._servers = {letter: RedisProxy(letter, port, self.fate, pace) for letter, port in ports.items()}
        self._redis = {letter: redis.asyncio.Redis(port=port) for letter, port in ports.items()}
        self._direct = {letter: f"redis://127.0.0.1:{port}" for letter, port in ports.items()}
        self._operator: ForkServerProcess | None = None
        self.namespace = ""
        self.collects = True
        self._exits = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, api: Api, folder: Path, base_ms: int, pace: float = nursery.PACE
    ) -> AsyncIterator[Lane]:
        """A lane with its own pair of servers; gone when left."""
        folder.mkdir(parents=True)  # noqa: ASYNC240 - once
        with contextlib.ExitStack() as running:
            ports = {letter: int(running.enter_context(redis7()).rsplit(":", 1)[1]) for letter in LETTERS}
            lane = cls(api, folder, ports, base_ms, pace)
            await lane.kube.start(folder / "kubeconfig")
            for proxy in lane._servers.values():
                await proxy.start()
            try:
                yield lane
            finally:
                await lane.kill()
                await lane.kube.stop()
                for proxy in lane._servers.values():
                    await proxy.stop()
                for client in lane._redis.values():
                    await client.aclose()

    @property
    def urls(self) -> dict[str, str]:
        """The servers as the operator finds them: through the proxies."""
        return {letter: f"redis://127.0.0.1:{proxy.port}" for letter, proxy in self._servers.items()}

    async def enter(self, namespace: str, weather: Weather) -> None:
        """A new namespace with the Secrets of both servers, which are emptied, and a running operator."""
        await self.kill()
        self.namespace, self.kube.weather, self.collects = namespace, weather, True
        await self._api.call(
            "POST",
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        )
        for letter, url in self.urls.items():
            await self._redis[letter].flushall()
            await self._redis[letter].script_flush()
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": namespace, "name": f"redis-{letter}"},
                "data": {"url": base64.b64encode(url.encode()).decode()},
            }
            await self._api.apply("api/v1", "secrets", secret)
        self.fate.renew()
        self.start()
        await self.until_watching()

    async def make(self, change: Change) -> None:
        """Makes one of the script's changes."""
        if change.beside is not None:
            await change.beside(World(self.namespace, self._redis, self._direct, self._base_ms))
        if change.manifest is not None:
            await self._api.apply(*PIPELINES, change.manifest(self.namespace))
        else:
            group, resource = PIPELINES
            path = f"/{group}/namespaces/{self.namespace}/{resource}/{state.NAME}"
            await self._api.call("DELETE", path)

    def start(self) -> None:
        """Another operator."""
        birth = nursery.Birth(
            self.namespace,
            str(self._folder / "kubeconfig"),
            str(self._folder / f"{self.namespace}.log"),
            self.pace,
        )
        self._operator = nursery.start(birth)

    async def kill(self) -> None:
        """SIGKILL; returns when nothing of the dead one is on its way any more."""
        if self._operator is not None:
            self._operator.kill()
            await asyncio.to_thread(self._operator.join)
            self._operator.close()
            self._operator = None
        self.kube.hang_up()
        for proxy in self._servers.values():
            proxy.hang_up()
        await self.fate.still()

    async def restart(self, point: Point | None = None) -> None:
        """SIGKILL, and another one, which meets its own fate."""
        await self.kill()
        self.fate.renew(point)
        self.start()

    def take_exits(self) -> int:
        """Operators that ended by themselves since this was last asked."""
        exits, self._exits = self._exits, 0
        return exits

    async def versions(self) -> dict[str, str]:
        """The resource versions of the pipeline's objects: what writes nothing changes none.

        Not of the pipeline itself: its status tells figures, and what whoever lives now has learnt of them.
        """
        objects = await state.observe(self._api, self.namespace)
        return {
            f"{item['resource']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in objects
            if item["resource"] != PIPELINES[1]
        }

    async def supervise(self) -> None:
        """Starts another when the operator ended by itself, as a pod is restarted."""
        if self._operator is not None and not self._operator.is_alive() and not self.fate.struck.is_set():
            self._exits += 1
            await self.restart()

    async def until_watching(self, seconds: float = 60) -> None:
        """Returns when the operator leads and watches."""
        deadline = time.monotonic() + seconds
        while not self.is_watching:
            await self.supervise()
            if time.monotonic() > deadline:
                raise UnsettledError(f"the operator does not watch after {seconds:g} s")
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def is_watching(self) -> bool:
        """Whether the living operator watches pipelines and their Deployments."""
        return {"fanoutpipelines", "deployments"} <= self.kube.watched

    async def look(self) -> tuple[State, list[Manifest], bool]:
        """The state now; what the controllers have to do is done then, and the last says that there was something."""
        objects = await state.observe(self._api, self.namespace)
        acted = await act(self._api, objects, collects=self.collects)
        seen: dict[str, Any] = {"objects": state.of_objects(objects, self.namespace, self.urls)}
        for letter, client in self._redis.items():
            seen[f"redis {letter}"] = await state.of_redis(client, self.namespace)
        return seen, objects, acted

    async def settled(self, seconds: float = 60) -> State:
        """The state once it changes no more; raises UnsettledError."""
        deadline = time.monotonic() + seconds
        last, since = None, time.monotonic()
        while True:
            await self.supervise()
            found, objects, acted = await self.look()
            now = time.monotonic()
            if acted or found != last or not _is_told(objects):
                last, since = found, now
            elif now - since > QUIET_SECONDS:
                return found
            if now > deadline:
                raise UnsettledError(
                    f"in {self.namespace} after {seconds:g} s still not settled: {_told(objects)}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def reached(self, wanted: State, seconds: float) -> str:
        """Waits until the state is as wanted, and stays so while somebody watches; else what differs in the end."""
        deadline = time.monotonic() + seconds
        since = None
        while True:
            await self.supervise()
            found, _, acted = await self.look()
            now = time.monotonic()
            if self.fate.struck.is_set():
                return ""
            if acted or found != wanted or not self.is_watching:
                since = None
            elif since is None:
                since = now
            elif now - since > _STEADY_SECONDS:
                return ""
            if now > deadline:
                return state.difference(wanted, found) or "as it should be, but no operator watches"
            await asyncio.sleep(_POLL_SECONDS)


def _is_told(objects: list[Manifest]) -> bool:
    pipeline = state.pipeline_of(objects)
    if pipeline is None:
        return True
    seen = (pipeline.get("status") or {}).get("observedGeneration")
    return bool(
        seen == pipeline["metadata"]["generation"] and "deletionTimestamp" not in pipeline["metadata"]
    )


def _told(objects: list[Manifest]) -> str:
    pipeline = state.pipeline_of(objects)
    return str((pipeline or {}).get("status"))[:600]
