"""The objects of pipelines on an API server: applied when they are not as wanted, deleted when ours and not wanted.

A pass over what did not change only reads: what was applied and what the API server made of it are remembered as two
digests, and as long as both still hold there is nothing to say. After a restart each object is applied once, which the
API server recognises as no change.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headgate_operator.cluster import NotFoundError
from headgate_operator.manifests import PIPELINE_LABEL, Manifest, selector
from headgate_operator.manifests.names import MANAGED
from headgate_operator.substrates.ownership import controller, digest, is_leftover, ours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_operator.cluster import Cluster
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates.kinds import ChildKind


class ObjectKey(NamedTuple):
    """What tells one object from another."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> ObjectKey:
        """The key of an object, or of one to be."""
        metadata = manifest["metadata"]
        return cls(manifest["kind"], metadata["namespace"], metadata["name"])


class Ensured(NamedTuple):
    """The writes that changed an object, and the object as it is now when it had to be applied."""

    writes: int
    applied: Manifest | None = None


@dataclass(frozen=True)
class _Applied:
    """Digests of what was applied and of what the API server then had."""

    wanted: str
    found: str


class Objects:
    """What is known of the objects of all pipelines of one cluster. Methods raise ClusterError and Problem."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._applied: dict[ObjectKey, _Applied] = {}
        self._having: dict[tuple[ChildKind, str, str], bool] = {}
        """By kind, namespace and pipeline: whether it may have such objects."""
        self._listed: set[tuple[ChildKind, str]] = set()
        self._listing: defaultdict[tuple[ChildKind, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def bring(self, pipeline: Pipeline, wanted: Sequence[Manifest], kinds: Sequence[ChildKind]) -> int:
        """Makes the pipeline's objects of these kinds those that are wanted; returns the writes that took.

        Raises Problem when a name is taken or a wanted kind is not known here, ValueError for any other kind.
        """
        of_kind: dict[str, list[Manifest]] = {kind.kind: [] for kind in kinds}
        for manifest in wanted:
            if manifest["kind"] not in of_kind:
                raise ValueError(f"{manifest['kind']}: no kind of {', '.join(of_kind)}: add it to them")
            of_kind[manifest["kind"]].append(manifest)
        return sum([await self._bring(pipeline, kind, of_kind[kind.kind]) for kind in kinds])

    async def ensure(
        self, pipeline: Pipeline, manifest: Manifest, live: Manifest | None, *, guarded: bool = False
    ) -> Ensured:
        """Applies one object if anything about it is not as wanted.

        `guarded`: only if it still is as in `live`; raises ConflictError when somebody was faster.
        """
        key = ObjectKey.of(manifest)
        writes = 0
        if live is not None and is_leftover(pipeline, live):
            await self.delete(live)
            live, writes = None, 1
        wanted = digest(manifest | {"spec": {**manifest.get("spec", {}), "replicas": None}})
        if live is not None and self._applied.get(key) == _Applied(wanted, digest(ours(live))):
            return Ensured(writes)
        if guarded and live is not None:
            version = {"resourceVersion": live["metadata"]["resourceVersion"]}
            manifest = manifest | {"metadata": manifest["metadata"] | version}
        result = await self._cluster.apply(manifest)
        self._applied[key] = _Applied(wanted, digest(ours(result)))
        changed = live is None or live["metadata"]["resourceVersion"] != result["metadata"]["resourceVersion"]
        return Ensured(writes + changed, result)

    async def labelled(self, pipeline: Pipeline, api_version: str, kind: str) -> dict[str, Manifest]:
        """The objects of a kind that carry the pipeline's label, by name."""
        found = await self._cluster.list(api_version, kind, pipeline.namespace, selector(pipeline.name))
        # Items of a list come without their kind.
        return {item["metadata"]["name"]: {"apiVersion": api_version, "kind": kind} | item for item in found}

    async def unlabelled(self, manifest: Manifest) -> Manifest | None:
        """The object of that name when it does not carry the pipeline's labels: somebody else's, or edited."""
        self._applied.pop(ObjectKey.of(manifest), None)
        return await self.live(manifest)

    async def live(self, manifest: Manifest) -> Manifest | None:
        """The object of that kind and name as it is; None when there is none."""
        try:
            return await self._cluster.get(manifest["apiVersion"], *ObjectKey.of(manifest))
        except NotFoundError:
            return None

    async def delete(self, live: Manifest) -> None:
        """Deletes this very object."""
        key = ObjectKey.of(live)
        await self._cluster.delete(live["apiVersion"], *key, uid=live["metadata"]["uid"])
        self._applied.pop(key, None)

    def lost(self, live: Manifest) -> bool:
        """Takes in that an object is gone; says whether it was one that had been applied."""
        return self._applied.pop(ObjectKey.of(live), None) is not None

    def as_left(self, live: Manifest) -> bool:
        """Whether an object still is what the API server made of what was applied."""
        applied = self._applied.get(ObjectKey.of(live))
        return applied is not None and applied.found == digest(ours(live))

    def forget(self, namespace: str, name: str) -> None:
        """Drops what is remembered of a pipeline that is gone."""
        gone = [
            key for key in self._applied if key.namespace == namespace and key.name.startswith(f"{name}-")
        ]
        # Of a pipeline with a longer name too, at worst: that one applies once more, to no effect.
        for key in gone:
            del self._applied[key]
        for kept in [kept for kept in self._having if kept[1:] == (namespace, name)]:
            del self._having[kept]

    async def _bring(self, pipeline: Pipeline, kind: ChildKind, wanted: Sequence[Manifest]) -> int:
        if not wanted and not await self._may_have(pipeline, kind):
            return 0
        found = await self._found(pipeline, kind, wanted=bool(wanted))
        whose = (kind, pipeline.namespace, pipeline.name)
        self._having[whose] = True
        writes = 0
        for manifest in wanted:
            live = found.pop(manifest["metadata"]["name"], None)
            if live is None and kind.sole_name is None:
                live = await self.unlabelled(manifest)
            writes += (await self.ensure(pipeline, manifest, live)).writes
        for leftover in found.values():
            if controller(leftover).get("uid") == pipeline.uid:
                await self.delete(leftover)
                writes += 1
        self._having[whose] = bool(wanted)
        return writes

    async def _found(self, pipeline: Pipeline, kind: ChildKind, *, wanted: bool) -> dict[str, Manifest]:
        """What there is of a kind, by name. A list that is not found is of a kind that is not known here."""
        if kind.sole_name is not None:
            name = kind.sole_name(pipeline.name)
            place = {"namespace": pipeline.namespace, "name": name}
            live = await self.live({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": place})
            return {} if live is None else {name: live}
        try:
            return await self.labelled(pipeline, kind.api_version, kind.kind)
        except NotFoundError:
            if not wanted:
                return {}
            if kind.problem is None:
                raise
            raise kind.problem() from None

    async def _may_have(self, pipeline: Pipeline, kind: ChildKind) -> bool:
        """Whether the pipeline may have objects of a kind that it does not want; asks once a namespace, or by name."""
        whose = (kind, pipeline.namespace, pipeline.name)
        if whose in self._having or kind.sole_name is not None:
            return self._having.get(whose, True)
        where = (kind, pipeline.namespace)
        async with self._listing[where]:
            if where not in self._listed:
                try:
                    items = await self._cluster.list(kind.api_version, kind.kind, pipeline.namespace, MANAGED)
                except NotFoundError:
                    items = []
                for item in items:
                    name = item["metadata"]["labels"].get(PIPELINE_LABEL, "")
                    self._having.setdefault((kind, pipeline.namespace, name), True)
                self._listed.add(where)
        return self._having.get(whose, False)
