"""Deployments as they were last seen: what the pilot needs to know of workers, without asking the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_operator.manifests import BRANCH_LABEL, PIPELINE_LABEL, Manifest, deployment_name
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class _Seen:
    """A Deployment as it was last seen; `generation` orders two sightings of one `uid`."""

    uid: str
    generation: int
    workers: Workers


class Sightings:
    """The Deployments of all pipelines of one cluster."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[str, _Seen]] = {}

    def take(self, deployment: Manifest) -> None:
        """Takes in a Deployment from wherever it was seen; an older sighting than the last changes nothing."""
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
                restarts=_restarts(last, deployment),
            ),
        )

    def take_all(self, key: tuple[str, str], deployments: Iterable[Manifest]) -> None:
        """Takes in all that a pipeline, by namespace and name, has: from then on it is known."""
        self._seen.setdefault(key, {})
        for deployment in deployments:
            self.take(deployment)

    def lose(self, key: tuple[str, str], branch: str, uid: str = "") -> None:
        """Takes in that a branch has no Deployment; with a `uid`, that this one is gone, and not what came after it."""
        known = self._seen.get(key, {})
        if branch in known and uid in {"", known[branch].uid}:
            del known[branch]

    def forget(self, key: tuple[str, str]) -> None:
        """Drops a pipeline."""
        self._seen.pop(key, None)

    def workers(self, key: tuple[str, str]) -> dict[str, Workers] | None:
        """The workers of a pipeline by branch; None when nobody has looked at all it has."""
        known = self._seen.get(key)
        return None if known is None else {branch: seen.workers for branch, seen in known.items()}


def _restarts(last: _Seen | None, deployment: Manifest) -> int:
    """Workers that ended badly so far, as readiness tells: ready before and not now, while nobody asked for fewer.

    Nor for others: in a roll-out workers end that should.
    """
    metadata, status = deployment["metadata"], deployment.get("status", {})
    if last is None or last.uid != metadata["uid"]:
        return 0
    before = last.workers
    settled = status.get("observedGeneration") == metadata["generation"] == last.generation
    if not settled or status.get("updatedReplicas", 0) != status.get("replicas", 0):
        return before.restarts
    ready: int = status.get("readyReplicas", 0)
    return before.restarts + max(0, min(before.ready, before.desired) - ready)
