"""Whose a Kubernetes object is, and what of it: pure questions to a live object."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from headgate_operator import engines
from headgate_operator.api import KIND
from headgate_operator.cluster import FIELD_MANAGER
from headgate_operator.manifests import PIPELINE_LABEL, Manifest
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.pipeline import Pipeline


def is_leftover(pipeline: Pipeline, live: Manifest) -> bool:
    """Whether an object is of a deleted pipeline of the same name; raises Problem when it is somebody else's."""
    owner, labels = controller(live), live["metadata"].get("labels", {})
    if owner.get("uid") == pipeline.uid:
        return False
    if not owner and labels.get(PIPELINE_LABEL) == pipeline.name:
        return False  # orphaned on purpose (kubectl delete --cascade=orphan): adopted again
    if owner.get("kind") == KIND and owner.get("name") == pipeline.name:
        return True
    whose = f"{owner['kind']} {owner['name']}" if owner else "nobody"
    kind, name = live["kind"], live["metadata"]["name"]
    raise Problem(
        "NameTaken",
        f"{kind} {name} exists and belongs to {whose}: rename the pipeline or the branch, or delete that {kind}",
    )


def with_replicas(pipeline: Pipeline, branch: str, manifest: Manifest, live: Manifest | None) -> Manifest:
    """The manifest, with replicas only for as long as nobody but this field manager has set them.

    A new Deployment starts at the branch's minimum (Kubernetes would start one). Left out of the next apply, a field
    that nobody else owns would fall back to its default; from the first change by whoever scales, the pilot or another
    engine, it is theirs. What a deleted pipeline of the same name has left is none of this one's. Raises Problem as
    `is_leftover` does.
    """
    if live is None or is_leftover(pipeline, live):
        replicas = engines.fewest(pipeline, branch)
    elif _owns_replicas(live):
        replicas = live["spec"]["replicas"]
    else:
        return manifest
    return manifest | {"spec": manifest["spec"] | {"replicas": replicas}}


def _owns_replicas(live: Manifest) -> bool:
    return any(
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in live["metadata"].get("managedFields", ())
    )


def controller(live: Manifest) -> Mapping[str, str]:
    """The owner reference of the one that controls it; empty when nobody does."""
    owners: list[dict[str, str]] = live["metadata"].get("ownerReferences", [])
    return next((owner for owner in owners if owner.get("controller")), {})


def ours(live: Manifest) -> Manifest:
    """What of a live object nobody but the operator should change; replicas and status come and go."""
    metadata = live["metadata"]
    return {
        "labels": metadata.get("labels"),
        "owners": metadata.get("ownerReferences"),
        "spec": {name: value for name, value in live.get("spec", {}).items() if name != "replicas"},
        "data": live.get("data"),
        "token": live.get("automountServiceAccountToken"),
    }


def digest(value: Manifest) -> str:
    """Equal for equal values, whatever the order of their members."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
