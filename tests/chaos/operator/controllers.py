"""The two controllers of Kubernetes that an operator leans on, played: no controller manager runs here.

The Deployment controller, as far as it shows: all replicas are ready. The garbage collector: what is owned by an object
that is no more goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.operator.api import DEPLOYMENTS, KINDS, Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.operator.api import Api

_GROUPS = {resource: group for group, resource in KINDS}


async def act(api: Api, objects: Sequence[Manifest], *, collects: bool = True) -> bool:
    """Does what both would do about these objects; says whether there was anything to do."""
    acted = False
    uids = {item["metadata"]["uid"] for item in objects}
    for item in objects:
        metadata = item["metadata"]
        path = f"/{_GROUPS[item['resource']]}/namespaces/{metadata['namespace']}/{item['resource']}/{metadata['name']}"
        owners = {owner["uid"] for owner in metadata.get("ownerReferences", ())}
        if owners and not owners & uids:
            if collects:
                body = {"preconditions": {"uid": metadata["uid"]}}
                await api.call("DELETE", path, body, missing_ok=True)
                acted = True
        elif item["resource"] == DEPLOYMENTS[1]:
            count = item["spec"].get("replicas", 1)
            wanted = {"observedGeneration": metadata["generation"]}
            if count:
                wanted |= {"replicas": count, "readyReplicas": count, "availableReplicas": count}
            if item.get("status", {}) != wanted:
                await api.call(
                    "PATCH",
                    f"{path}/status?fieldManager=kubelet",
                    {"status": {"replicas": None, "readyReplicas": None, "availableReplicas": None} | wanted},
                    "application/merge-patch+json",
                    missing_ok=True,
                )
                acted = True
    return acted
