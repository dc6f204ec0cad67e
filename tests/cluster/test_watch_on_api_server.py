"""Watching Deployments on a real API server: nothing that happens to them is missed, watched or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator import cluster as cluster_module
from headgate_operator.watch import Watch, Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LABEL = "headgate.dev/tests-of-watching"


def deployment(name: str, image: str = "videos:1", namespace: str = "default") -> dict[str, Any]:
    labels = {LABEL: name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "work", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": pod, "replicas": 0},
    }


class Told:
    """What a watch told of, and the task that watches."""

    def __init__(self, api: Any, *namespaces: str) -> None:
        self.events: list[tuple[str | None, str]] = []
        self.objects: list[dict[str, Any]] = []
        self.watch = Watch(api, Watched("apps/v1", "Deployment", LABEL), namespaces, self._saw)
        self._task: asyncio.Task[None] | None = None

    def _saw(self, event: str | None, item: dict[str, Any]) -> None:
        self.events.append((event, item["metadata"]["name"]))
        self.objects.append(item)

    def start(self) -> None:
        self._task = asyncio.create_task(self.watch.run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, *events: tuple[str | None, str]) -> None:
        await eventually(lambda: set(events) <= set(self.events))


async def eventually(ask: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not ask():  # noqa: ASYNC110  # it is the API server that changes
            await asyncio.sleep(0.05)


@pytest.fixture
async def told(api) -> AsyncIterator[Told]:
    watching = Told(api)
    yield watching
    await watching.stop()
    for item in await api.list("apps/v1", "Deployment", "default", {}):
        if LABEL in item["metadata"].get("labels", {}):
            await api.delete(
                "apps/v1", "Deployment", "default", item["metadata"]["name"], uid=item["metadata"]["uid"]
            )


async def test_what_is_there_and_what_happens_to_it_is_told(api, told):
    await api.apply(deployment("there"))
    told.start()
    await told.until((None, "there"))
    made = await api.apply(deployment("new"))
    await told.until(("ADDED", "new"))
    await api.apply(deployment("there", "videos:2"))
    await told.until(("MODIFIED", "there"))
    await api.delete("apps/v1", "Deployment", "default", "new", uid=made["metadata"]["uid"])
    await told.until(("DELETED", "new"))
    assert all(item["kind"] == "Deployment" for item in told.objects)
    assert all("managedFields" not in item["metadata"] for item in told.objects)


async def test_more_than_a_page_is_told_whole(api, told, monkeypatch):
    monkeypatch.setattr(cluster_module, "PAGE_ITEMS", 2)
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        await api.apply(deployment(name))
    told.start()
    await told.until(*((None, name) for name in names))


async def test_what_went_while_nobody_watched_is_told_once_somebody_does(api, told):
    gone = await api.apply(deployment("gone"))
    await api.apply(deployment("kept"))
    told.start()
    await told.until((None, "gone"), (None, "kept"))
    await told.stop()
    await api.delete("apps/v1", "Deployment", "default", "gone", uid=gone["metadata"]["uid"])
    told.start()
    await told.until(("DELETED", "gone"))
    last = told.objects[told.events.index(("DELETED", "gone"))]
    assert (last["kind"], last["metadata"]["labels"]) == ("Deployment", {LABEL: "gone"})
    assert ("DELETED", "kept") not in told.events


async def test_a_watch_that_is_cut_goes_on(api, told):
    told.start()
    await eventually(lambda: told.watch._known)
    host, api.configuration.host = api.configuration.host, "https://127.0.0.1:1"
    await api._transport.aclose()
    await asyncio.sleep(2)
    api.configuration.host = host
    await api.apply(deployment("after"))
    await eventually(lambda: any(name == "after" for _, name in told.events))
