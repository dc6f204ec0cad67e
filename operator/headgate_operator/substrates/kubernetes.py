"""Workers as Deployments: everything but replicas by server-side apply, replicas by the pilot in one patch.

A pass over an unchanged pipeline only reads: what was applied and what the API server made of it are remembered as two
digests, and as long as both still hold there is nothing to say. After a restart each object is applied once, which the
API server recognises as no change.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from headgate_operator.cluster import ClusterError, NotFoundError
from headgate_operator.manifests import (
    BRANCH_LABEL,
    PIPELINE_LABEL,
    Manifest,
    children,
    deployment_name,
    selector,
)
from headgate_operator.substrates import Workers
from headgate_operator.substrates.credentials import redis_source
from headgate_operator.substrates.ownership import controller, digest, is_leftover, ours, with_replicas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.cluster import Cluster
    from headgate_operator.manifests import RedisSource
    from headgate_operator.pipeline import Pipeline

SCALE_MANAGER = "headgate-pilot"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
STOPPING_SECONDS = 60.0
_PRICED_AT_ONCE = 20  # pods: hundreds one after another would outlast the pilot's round
"""Longest wait for the pods of a removed pipeline; more than their grace period."""

log = structlog.get_logger()


class _ObjectKey(NamedTuple):
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class _Applied:
    """Digests of what was applied and of what the API server then had."""

    wanted: str
    found: str


@dataclass(frozen=True)
class _Seen:
    """A Deployment as it was last seen; `generation` orders two sightings of one `uid`."""

    uid: str
    generation: int
    workers: Workers


class KubernetesSubstrate:
    """The workers of all pipelines of one cluster.

    `default_url` is the operator's own server, for pipelines without one; `pushing_image` runs workers that push
    events. Whoever watches Deployments passes them to `saw`; `observe` then answers from memory.
    """

    def __init__(self, cluster: Cluster, default_url: str | None, pushing_image: str | None = None) -> None:
        self._cluster = cluster
        self._default_url = default_url
        self._pushing_image = pushing_image
        self._applied: dict[_ObjectKey, _Applied] = {}
        self._seen: dict[tuple[str, str], dict[str, _Seen]] = {}
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def redis(self, pipeline: Pipeline) -> RedisSource:
        """Where the pipeline's server's URL stands; raises Problem when it stands nowhere."""
        return await redis_source(self._cluster, pipeline, self._default_url)

    async def apply(self, pipeline: Pipeline) -> int:
        """See Substrate. Raises Problem when an object's name is taken, ClusterError when the API server refuses."""
        wanted = children(pipeline, await self.redis(pipeline), self._pushing_image)
        writes = 0
        for manifest in wanted.shared:
            key = _key(manifest)
            try:
                live: Manifest | None = await self._cluster.get(manifest["apiVersion"], *key)
            except NotFoundError:
                live = None
            writes += await self._ensure(pipeline, manifest, live)
        # Replicas are the pilot's: it waits here, so that none of its patches falls between this read and write.
        async with self._locks[pipeline.namespace, pipeline.name]:
            found = await self._deployments(pipeline)
            self._seen.setdefault((pipeline.namespace, pipeline.name), {})
            for deployment in found.values():
                self._remember(deployment)
            for branch, manifest in wanted.deployments.items():
                name = manifest["metadata"]["name"]
                live = found.pop(name, None) or await self._unlabelled(manifest)
                writes += await self._ensure(pipeline, with_replicas(pipeline, branch, manifest, live), live)
            for leftover in found.values():
                if controller(leftover).get("uid") == pipeline.uid:
                    await self._delete(leftover)
                    writes += 1
        return writes

    async def observe(self, pipeline: Pipeline) -> dict[str, Workers]:
        """See Substrate. From what `saw` and `apply` have seen, else from one list."""
        key = (pipeline.namespace, pipeline.name)
        if key not in self._seen:
            found = await self._deployments(pipeline)
            self._seen.setdefault(key, {})
            for deployment in found.values():
                self._remember(deployment)
        return {branch: seen.workers for branch, seen in self._seen[key].items()}

    async def scale(self, pipeline: Pipeline, branch: str, replicas: int, holding: Mapping[str, int]) -> None:
        """See Substrate. A branch whose Deployment is not there yet is left to the next pass."""
        key = (pipeline.namespace, pipeline.name)
        async with self._locks[key]:
            seen = self._seen.get(key, {}).get(branch)
            if seen is None:
                return
            if replicas < seen.workers.desired:
                await self._price(pipeline, branch, holding)
            try:
                deployment = await self._cluster.patch(
                    "apps/v1",
                    "Deployment",
                    pipeline.namespace,
                    deployment_name(pipeline.name, branch),
                    {"spec": {"replicas": replicas}},
                    field_manager=SCALE_MANAGER,
                )
            except NotFoundError:
                self._seen.get(key, {}).pop(branch, None)
                return
            self._remember(deployment)

    async def remove(self, pipeline: Pipeline) -> None:
        """See Substrate. Returns when the workers' pods are gone, or after STOPPING_SECONDS."""
        key = (pipeline.namespace, pipeline.name)
        async with self._locks[key]:
            for deployment in (await self._deployments(pipeline)).values():
                if controller(deployment).get("uid") == pipeline.uid:
                    await self._delete(deployment)
        deadline = time.monotonic() + STOPPING_SECONDS
        while await self._pods(pipeline):
            if time.monotonic() > deadline:
                log.warning("workers do not stop", pipeline=str(pipeline), seconds=STOPPING_SECONDS)
                break
            await asyncio.sleep(0.5)
        self.forget(*key)

    def forget(self, namespace: str, name: str) -> None:
        """Drops what is remembered of a pipeline that is gone."""
        self._seen.pop((namespace, name), None)
        self._locks.pop((namespace, name), None)
        gone = [
            key for key in self._applied if key.namespace == namespace and key.name.startswith(f"{name}-")
        ]
        # Of a pipeline with a longer name too, at worst: that one applies once more, to no effect.
        for key in gone:
            del self._applied[key]

    def saw(self, event: str | None, deployment: Manifest) -> bool:
        """Takes in a Deployment from a watch; says whether it is other than it was left, so that a pass is due."""
        key = _key(deployment)
        labels = deployment["metadata"].get("labels", {})
        pipeline, branch = labels.get(PIPELINE_LABEL), labels.get(BRANCH_LABEL)
        if pipeline is None or branch is None:
            return False
        if event == "DELETED":
            self._seen.get((key.namespace, pipeline), {}).pop(branch, None)
            return self._applied.pop(key, None) is not None
        self._remember(deployment)
        applied = self._applied.get(key)
        return applied is None or applied.found != digest(ours(deployment))

    async def _ensure(self, pipeline: Pipeline, manifest: Manifest, live: Manifest | None) -> int:
        """Applies one object if anything about it is not as wanted; returns the number of writes that changed it."""
        key = _key(manifest)
        writes = 0
        if live is not None and is_leftover(pipeline, live):
            await self._delete(live)
            live, writes = None, 1
        wanted = digest(manifest | {"spec": {**manifest.get("spec", {}), "replicas": None}})
        if live is not None and self._applied.get(key) == _Applied(wanted, digest(ours(live))):
            return writes
        result = await self._cluster.apply(manifest)
        self._applied[key] = _Applied(wanted, digest(ours(result)))
        if result["kind"] == "Deployment":
            self._remember(result)
        changed = live is None or live["metadata"]["resourceVersion"] != result["metadata"]["resourceVersion"]
        return writes + changed

    async def _deployments(self, pipeline: Pipeline) -> dict[str, Manifest]:
        found = await self._cluster.list("apps/v1", "Deployment", pipeline.namespace, selector(pipeline.name))
        # Items of a list come without their kind.
        return {
            item["metadata"]["name"]: {"apiVersion": "apps/v1", "kind": "Deployment"} | item for item in found
        }

    async def _unlabelled(self, manifest: Manifest) -> Manifest | None:
        """The Deployment of that name when it does not carry the pipeline's labels: somebody else's, or edited."""
        if _key(manifest) in self._applied:
            del self._applied[_key(manifest)]
        try:
            return await self._cluster.get(manifest["apiVersion"], *_key(manifest))
        except NotFoundError:
            return None

    async def _pods(self, pipeline: Pipeline, branch: str | None = None) -> list[Manifest]:
        return await self._cluster.list("v1", "Pod", pipeline.namespace, selector(pipeline.name, branch))

    async def _price(self, pipeline: Pipeline, branch: str, holding: Mapping[str, int]) -> None:
        """Makes the pods that hold least the cheapest to delete; one that cannot be priced keeps its old price."""
        few = asyncio.Semaphore(_PRICED_AT_ONCE)

        async def price(name: str, cost: str) -> None:
            patch = {"metadata": {"annotations": {DELETION_COST: cost}}}
            try:
                async with few:
                    await self._cluster.patch(
                        "v1", "Pod", pipeline.namespace, name, patch, field_manager=SCALE_MANAGER
                    )
            except NotFoundError:
                return
            except ClusterError as error:
                log.warning("deletion cost not set", pod=name, error=str(error))

        changes = []
        for pod in await self._pods(pipeline, branch):
            name = pod["metadata"]["name"]
            cost = str(holding.get(name, 0))
            if pod["metadata"].get("annotations", {}).get(DELETION_COST, "0") != cost:
                changes.append(price(name, cost))
        await asyncio.gather(*changes)

    async def _delete(self, live: Manifest) -> None:
        key = _key(live)
        await self._cluster.delete(live["apiVersion"], *key, uid=live["metadata"]["uid"])
        self._applied.pop(key, None)
        labels = live["metadata"].get("labels", {})
        if key.kind == "Deployment" and PIPELINE_LABEL in labels:
            self._seen.get((key.namespace, labels[PIPELINE_LABEL]), {}).pop(
                labels.get(BRANCH_LABEL, ""), None
            )

    def _remember(self, deployment: Manifest) -> None:
        metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status", {})
        pipeline, branch = metadata["labels"][PIPELINE_LABEL], metadata["labels"].get(BRANCH_LABEL, "")
        if metadata["name"] != deployment_name(pipeline, branch):
            return  # somebody's copy
        known = self._seen.setdefault((metadata["namespace"], pipeline), {})
        last = known.get(branch)
        if last and last.uid == metadata["uid"] and last.generation > metadata["generation"]:
            return  # a watch event from before our own last write
        known[branch] = _Seen(
            metadata["uid"],
            metadata["generation"],
            Workers(
                desired=spec.get("replicas", 1),
                running=status.get("replicas", 0),
                ready=status.get("readyReplicas", 0),
            ),
        )


def _key(manifest: Manifest) -> _ObjectKey:
    metadata = manifest["metadata"]
    return _ObjectKey(manifest["kind"], metadata["namespace"], metadata["name"])
