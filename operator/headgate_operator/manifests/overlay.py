"""Merges what a branch adds to its pods (pod.overlay) into the pod that the operator makes.

As Kubernetes merges a strategic patch: objects member by member, lists of named things by their names, other lists as
a whole. Nothing can be removed: `pod_guard` refuses null and the patch directives that would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.manifests.names import Manifest

_NAMED_BY = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists that are merged, and the member that names an item; as in the API's own merge keys."""
HARDENED: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What a container of an overlay starts from."""


def merge(pod: Manifest, overlay: Mapping[str, Any], *, harden: bool = True) -> Manifest:
    """The pod spec with the overlay in it; containers that the overlay adds are hardened, but for what they say."""
    added = dict(overlay)
    if harden:
        for kind in ("containers", "initContainers"):
            if kind in added:
                known = {container["name"] for container in pod.get(kind, ())}
                added[kind] = [
                    each if each["name"] in known else _merged({"securityContext": HARDENED}, each)
                    for each in added[kind]
                ]
    return _merged(pod, added)


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> Manifest:
    result = dict(base)
    for name, value in change.items():
        known = result.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            result[name] = _merged(known, value)
        elif isinstance(known, list) and isinstance(value, list) and name in _NAMED_BY:
            result[name] = _merged_list(known, value, _NAMED_BY[name])
        else:
            result[name] = value
    return result


def _merged_list(known: list[Manifest], change: list[Manifest], key: str) -> list[Manifest]:
    result = {item[key]: item for item in known}
    for item in change:
        result[item[key]] = _merged(result.get(item[key], {}), item)
    return list(result.values())
