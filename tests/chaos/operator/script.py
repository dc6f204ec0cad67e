"""The twelve changes that every run makes: the life of one pipeline, from its creation to the next one of its name."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaos.operator.state import NAME
from headgate.streams import PipelineKeys, Server, close_branch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import redis.asyncio

    from chaos.operator.api import Manifest

PARTITIONS = 2
_HOOK = "https://hooks.example/a"


@dataclass(frozen=True)
class World:
    """What a change may lay hands on: the servers, by letter, and from where the ids of events count (ms)."""

    namespace: str
    redis: Mapping[str, redis.asyncio.Redis]
    urls: Mapping[str, str]
    """As the servers are reached directly, not through a proxy."""
    base_ms: int

    @property
    def keys(self) -> PipelineKeys:
        """Those of the pipeline."""
        return PipelineKeys(self.namespace, NAME, PARTITIONS)

    async def publish(self, first: int, count: int, lane: str, handled_by: tuple[str, ...]) -> None:
        """Events `first` and following into each partition of server a; handled at once by some branches.

        In one transaction, so that no operator sees a backlog that comes and goes.
        """
        for partition in self.keys.all:
            stream = f"{partition.tag}:{lane}"
            async with self.redis["a"].pipeline(transaction=True) as pipe:
                for number in range(first, first + count):
                    pipe.xadd(stream, {"data": "{}"}, id=f"{self.base_ms}-{number}")
                for branch in handled_by:
                    pipe.xreadgroup(branch, "hand", {stream: ">"}, noack=True)
                await pipe.execute()


@dataclass(frozen=True)
class Change:
    """One change: what happens beside it first, and the manifest then applied; None deletes the pipeline."""

    name: str
    manifest: Callable[[str], Manifest] | None
    beside: Callable[[World], Awaitable[None]] | None = None


async def _three_events(world: World) -> None:
    await world.publish(1, 3, "normal", ("thumbnail", "hook"))


async def _target_gone(world: World) -> None:
    server = Server.connect(world.urls["a"])
    try:
        await close_branch(server, world.keys, "hook", "410 Gone", _HOOK)
    finally:
        await server.aclose()


async def _pile_up(world: World) -> None:
    await world.publish(10, 4, "normal", ("thumbnail", "hook"))


def script() -> tuple[Change, ...]:
    """The changes, in order."""
    spec: dict[str, Any] = {
        "redis": {"secretRef": {"name": "redis-a"}},
        "source": {"partitions": PARTITIONS, "dedupeWindowSeconds": 3600},
        "branches": [
            {
                "name": "thumbnail",
                "filter": "event.type == 'video'",
                "handler": {"python": {"image": "videos:1", "function": "videos:thumbnail"}},
                "scale": {"min": 0, "max": 4, "scaleDownAfterSeconds": 0},
            },
            {
                "name": "hook",
                "handler": {"http": {"url": _HOOK}},
                "scale": {"min": 0, "max": 4, "scaleDownAfterSeconds": 0},
            },
        ],
        "join": {"branches": ["thumbnail", "hook"]},
    }
    changes: list[Change] = []

    def then(
        name: str,
        change: Callable[[dict[str, Any]], None],
        beside: Callable[[World], Awaitable[None]] | None = None,
    ) -> None:
        change(spec)
        held = copy.deepcopy(spec)
        changes.append(Change(name, lambda namespace: _manifest(namespace, held), beside))

    then("create", lambda _: None)
    created = copy.deepcopy(spec)
    then("add branch", _add_branch, _three_events)
    then("scale limits", _scale_limits)
    then("handler change", _handler_change, _target_gone)
    then("backpressure", _backpressure, _pile_up)
    then("pause", lambda given: given.update(paused=True))
    then("bad spec", lambda given: given["branches"][0].update(filter="event.typ == 'video'"))
    then("fix", _fix)
    then("remove branch", _remove_branch)
    then("rename Redis", lambda given: given["redis"]["secretRef"].update(name="redis-b"))
    changes.append(Change("delete", None))
    # On the server that the deleted one was on: what it left on the other stays there by design.
    anew = created | {"redis": {"secretRef": {"name": "redis-b"}}}
    changes.append(Change("re-create", lambda namespace: _manifest(namespace, anew)))
    return tuple(changes)


def _add_branch(spec: dict[str, Any]) -> None:
    # One worker whatever waits, so that its backlog is a state and not a race.
    spec["branches"].append(
        {
            "name": "slow",
            "handler": {"python": {"image": "videos:1", "function": "videos:transcode"}},
            "scale": {"min": 1, "max": 1},
            "ordering": "Key",
        }
    )


def _scale_limits(spec: dict[str, Any]) -> None:
    spec["branches"][0]["scale"] |= {"min": 2, "max": 5}
    spec["branches"][1]["scale"] |= {"max": 3}
    spec["source"]["partitions"] = PARTITIONS + 1


def _handler_change(spec: dict[str, Any]) -> None:
    spec["branches"][0]["handler"]["python"]["image"] = "videos:2"
    spec["branches"][1]["handler"]["http"]["url"] = "https://hooks.example/b"


def _backpressure(spec: dict[str, Any]) -> None:
    spec["backpressure"] = {"levels": [{"name": "Delay", "lag": 3, "releaseLag": 1, "delay": ["Low"]}]}


def _fix(spec: dict[str, Any]) -> None:
    spec["branches"][0]["filter"] = "event.type == 'film'"
    spec["paused"] = False


def _remove_branch(spec: dict[str, Any]) -> None:
    del spec["branches"][1], spec["join"]


def _manifest(namespace: str, spec: dict[str, Any]) -> Manifest:
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"namespace": namespace, "name": NAME},
        "spec": spec,
    }
