"""Workers as Deployments: everything but replicas by server-side apply, replicas by the pilot in one patch.

A branch that another engine scales has that engine's object beside its Deployment, and its replicas are nobody's here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from headgate_operator import engines
from headgate_operator.api import ScaleEngine
from headgate_operator.cluster import ConflictError, NotFoundError
from headgate_operator.manifests import (
    BRANCH_LABEL,
    PIPELINE_LABEL,
    Manifest,
    children,
    deployment_name,
)
from headgate_operator.substrates import pods
from headgate_operator.substrates.credentials import Credentials
from headgate_operator.substrates.kinds import ENGINES, SHARED
from headgate_operator.substrates.objects import Objects
from headgate_operator.substrates.ownership import controller, with_replicas
from headgate_operator.substrates.pods import SCALE_MANAGER
from headgate_operator.substrates.rehearsal import Rehearsal
from headgate_operator.substrates.sightings import Sightings
from headgate_operator.users import Rehearsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.cluster import Cluster
    from headgate_operator.manifests import RedisSource
    from headgate_operator.manifests.pod_guard import PodRules
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Workers
    from headgate_operator.users import UserMaker

_GUARDED_ATTEMPTS = 5  # at a Deployment that another engine scales at the same moment


class KubernetesSubstrate:
    """The workers of all pipelines of one cluster.

    `default_url` is the operator's own server, for pipelines without one; `pushing_image` runs workers that push
    events; KEDA reaches the operator at `scaler_address`, host:port; `rules` say what pods may be; `users` makes a
    user for each pipeline on the operator's server, and without it workers share the operator's. Whoever watches
    Deployments passes them to `saw`; `observe` then answers from memory.
    """

    def __init__(
        self,
        cluster: Cluster,
        default_url: str | None,
        pushing_image: str | None = None,
        scaler_address: str | None = None,
        *,
        rules: PodRules | None = None,
        users: UserMaker | None = None,
    ) -> None:
        self._cluster = cluster
        self._rules = rules
        self._users = users
        self._credentials = Credentials(cluster, default_url, users)
        self._default_url = default_url
        self._pushing_image = pushing_image
        self._scaler_address = scaler_address
        self._objects = Objects(cluster)
        self._sightings = Sightings()
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def redis(self, pipeline: Pipeline) -> RedisSource:
        """Where the operator finds the pipeline's server; raises Problem when its URL stands nowhere."""
        return await self._credentials.of_operator(pipeline)

    def rotating(self, namespace: str, name: str) -> bool:
        """Whether a password of the pipeline is being replaced, so that another pass is due soon."""
        return self._credentials.rotating(namespace, name)

    async def apply(self, pipeline: Pipeline) -> int:
        """See Substrate. Raises Problem when an object's name is taken, ClusterError when the API server refuses."""
        redis = await self._credentials.of_workers(pipeline)
        wanted = children(pipeline, redis, self._pushing_image, self._rules)
        writes = await self._objects.bring(pipeline, wanted.shared, SHARED)
        key = (pipeline.namespace, pipeline.name)
        # Replicas are the pilot's: it waits here, so that none of its patches falls between this read and write.
        async with self._locks[key]:
            found = await self._deployments(pipeline)
            self._sightings.take_all(key, found.values())
            for branch, manifest in wanted.deployments.items():
                live = found.pop(manifest["metadata"]["name"], None)
                writes += await self._deploy(
                    pipeline, branch, manifest, live or await self._objects.unlabelled(manifest)
                )
            for leftover in found.values():
                branch = leftover["metadata"].get("labels", {}).get(BRANCH_LABEL, "")
                if controller(leftover).get("uid") == pipeline.uid and not pipeline.drains(branch):
                    await self._delete(leftover)
                    writes += 1
        # Last, as nothing works without the Deployments, and everything else does without these.
        scaling = engines.manifests(pipeline, self._scaler_address)
        return writes + await self._objects.bring(pipeline, scaling, ENGINES)

    async def plan(self, pipeline: Pipeline) -> list[str]:
        """What `apply` would write, a sentence an object; raises as it does."""
        rehearsal = Rehearsal(self._cluster)
        afresh = KubernetesSubstrate(
            rehearsal,
            self._default_url,
            self._pushing_image,
            self._scaler_address,
            rules=self._rules,
            users=Rehearsed() if self._users is not None else None,
        )
        await afresh.apply(pipeline)
        return rehearsal.plan

    async def observe(self, pipeline: Pipeline) -> dict[str, Workers]:
        """See Substrate. From what `saw` and `apply` have seen, else from one list."""
        key = (pipeline.namespace, pipeline.name)
        workers = self._sightings.workers(key)
        if workers is None:
            self._sightings.take_all(key, (await self._deployments(pipeline)).values())
            workers = self._sightings.workers(key) or {}
        foreign = {
            branch: replace(workers[branch], foreign=True)
            for branch in engines.foreign(pipeline)
            if branch in workers
        }
        return workers | foreign

    async def scale(self, pipeline: Pipeline, branch: str, replicas: int, holding: Mapping[str, int]) -> None:
        """See Substrate. A branch whose Deployment is not there yet is left to the next pass."""
        key = (pipeline.namespace, pipeline.name)
        async with self._locks[key]:
            workers = (self._sightings.workers(key) or {}).get(branch)
            if workers is None:
                return
            if replicas < workers.desired:
                await pods.price(self._cluster, pipeline, branch, holding)
            await self._set_replicas(pipeline, branch, replicas)

    async def price(self, pipeline: Pipeline, branch: str, holding: Mapping[str, int]) -> None:
        """See Substrate. Writes to the pods whose price is another than it was."""
        await pods.price(self._cluster, pipeline, branch, holding)

    async def remove(self, pipeline: Pipeline) -> None:
        """See Substrate. Returns when the workers' pods are gone, or after pods.STOPPING_SECONDS."""
        key = (pipeline.namespace, pipeline.name)
        async with self._locks[key]:
            for deployment in (await self._deployments(pipeline)).values():
                if controller(deployment).get("uid") == pipeline.uid:
                    await self._delete(deployment)
        await pods.until_gone(self._cluster, pipeline)
        self.forget(*key)

    async def dismiss(self, pipeline: Pipeline) -> None:
        """Removes the pipeline's user on the operator's server, if it has one; raises Problem when one is left."""
        await self._credentials.dismiss(pipeline)

    def forget(self, namespace: str, name: str) -> None:
        """Drops what is remembered of a pipeline that is gone."""
        self._sightings.forget((namespace, name))
        self._locks.pop((namespace, name), None)
        self._objects.forget(namespace, name)
        self._credentials.forget(namespace, name)

    def saw(self, event: str | None, deployment: Manifest) -> bool:
        """Takes in a Deployment from a watch; says whether it is other than it was left, so that a pass is due."""
        labels = deployment["metadata"].get("labels", {})
        pipeline, branch = labels.get(PIPELINE_LABEL), labels.get(BRANCH_LABEL)
        if pipeline is None or branch is None:
            return False
        if event == "DELETED":
            metadata = deployment["metadata"]
            self._sightings.lose((metadata["namespace"], pipeline), branch, metadata["uid"])
            return self._objects.lost(deployment)
        self._sightings.take(deployment)
        return not self._objects.as_left(deployment)

    async def _deploy(
        self, pipeline: Pipeline, branch: str, manifest: Manifest, live: Manifest | None
    ) -> int:
        """Applies a branch's Deployment; returns the writes that took."""
        engine = engines.in_force(pipeline, branch)
        for left in reversed(range(_GUARDED_ATTEMPTS)):
            complete = with_replicas(pipeline, branch, manifest, live)
            # The pilot waits meanwhile; whoever else scales may be faster than this apply, and is right.
            guarded = engine is not ScaleEngine.PILOT and "replicas" in complete["spec"]
            try:
                ensured = await self._objects.ensure(pipeline, complete, live, guarded=guarded)
                break
            except ConflictError:
                if not guarded or not left:
                    raise
                live = await self._objects.live(manifest)
        if ensured.applied is not None:
            self._sightings.take(ensured.applied)
        now = ensured.applied or live
        if engine is ScaleEngine.HPA and now is not None and now["spec"]["replicas"] == 0:
            # To a HorizontalPodAutoscaler zero means that it is switched off.
            await self._set_replicas(pipeline, branch, engines.fewest(pipeline, branch))
            return ensured.writes + 1
        return ensured.writes

    async def _set_replicas(self, pipeline: Pipeline, branch: str, replicas: int) -> None:
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
            self._sightings.lose((pipeline.namespace, pipeline.name), branch)
            return
        self._sightings.take(deployment)

    async def _deployments(self, pipeline: Pipeline) -> dict[str, Manifest]:
        return await self._objects.labelled(pipeline, "apps/v1", "Deployment")

    async def _delete(self, live: Manifest) -> None:
        await self._objects.delete(live)
        labels = live["metadata"].get("labels", {})
        if PIPELINE_LABEL in labels:
            key = (live["metadata"]["namespace"], labels[PIPELINE_LABEL])
            self._sightings.lose(key, labels.get(BRANCH_LABEL, ""))
