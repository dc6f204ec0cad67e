"""Watching objects of one kind, however many: each is handed on and nothing of it is kept but its name.

kopf keeps a task, a queue and a memory for each object it watches, and copies it for each event. That is right for a
thousand pipelines, and too much for their five thousand Deployments.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import structlog

from headgate_operator.cluster import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate_operator.cluster import Cluster
    from headgate_operator.manifests.names import Manifest

    Saw = Callable[[str | None, Manifest], None]

PAUSE_SECONDS = 1.0
"""Between two tries of an API server that refuses, or cannot be reached."""
SHORT_PAUSE_SECONDS = 0.1
"""After one that it ended by itself."""

log = structlog.get_logger()


class Watched(NamedTuple):
    """What is watched: objects of a kind that carry a label."""

    api_version: str
    kind: str
    label: str


class Watch:
    """Tells `saw` of every object as it is (an event of None), and then of every change, as the API server names it.

    An object that went while nobody watched is told as DELETED too, with its identity and labels alone.
    """

    def __init__(self, cluster: Cluster, watched: Watched, namespaces: Sequence[str], saw: Saw) -> None:
        self._cluster = cluster
        self._watched = watched
        self._namespaces = tuple(namespaces) or ("",)
        self._saw = saw
        self._known: dict[str, dict[str, Manifest]] = {namespace: {} for namespace in self._namespaces}

    async def run(self) -> None:
        """Watches until cancelled; an API server that is away is asked again for ever."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._run(namespace))

    async def _run(self, namespace: str) -> None:
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list(namespace)
                version = await self._follow(namespace, version)
                await asyncio.sleep(SHORT_PAUSE_SECONDS)
            except ClusterError as error:
                if error.status != 410:  # the version is too old: nothing is wrong, all is listed anew
                    log.warning("watch interrupted", kind=self._watched.kind, error=str(error))
                    await asyncio.sleep(PAUSE_SECONDS)
                version = ""

    async def _list(self, namespace: str) -> str:
        """Hands on all there are; gives the version to watch from."""
        gone = self._known[namespace]
        self._known[namespace] = {}
        version = ""
        async for page in self._cluster.pages(*self._watched, namespace):
            version = page["metadata"]["resourceVersion"]
            for item in page.get("items") or ():
                gone.pop(item["metadata"]["uid"], None)
                self._tell(namespace, None, item)
        for item in gone.values():
            self._tell(namespace, "DELETED", item)
        return version

    async def _follow(self, namespace: str, version: str) -> str:
        """Hands on changes for as long as the API server tells of any; gives the version it got to."""
        async for event in self._cluster.events(*self._watched, namespace, version):
            told, item = event["type"], event["object"]
            if told == "ERROR":
                raise ClusterError(item.get("code", 0), item.get("reason", ""), item.get("message", ""))
            version = item["metadata"]["resourceVersion"]
            if told != "BOOKMARK":
                self._tell(namespace, told, item)
        return version

    def _tell(self, namespace: str, told: str | None, item: Manifest) -> None:
        # Items of a list come without their kind.
        kind: Manifest = {"apiVersion": self._watched.api_version, "kind": self._watched.kind}
        item = kind | item
        metadata, known = item["metadata"], self._known[namespace]
        metadata.pop("managedFields", None)
        if told == "DELETED":
            known.pop(metadata["uid"], None)
        elif metadata["uid"] not in known:
            identity = {name: metadata[name] for name in ("namespace", "name", "uid", "labels")}
            known[metadata["uid"]] = kind | {"metadata": identity}
        self._saw(told, item)
