"""What the API server does to an object before it validates it: unknown fields out, nulls out, defaults in.

Written after k8s.io/apiextensions-apiserver, pkg/apiserver/schema/{pruning,defaulting}, for the schemas crd.py makes.
"""

from __future__ import annotations

import copy
import datetime as dt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate_operator.crd import Schema

_METADATA = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


def as_json(value: Any) -> Any:
    """A copy of what a YAML reader made of a manifest, with the types kubectl would send.

    Keys are strings, whole floats are integers, integers beyond 64 bits are floats, dates are text.
    """
    match value:
        case dict():
            return {str(name): as_json(member) for name, member in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
        case dt.date():
            return value.isoformat()
        case float() if value.is_integer() and _fits(value):
            return int(value)
        case int() if not _fits(value):
            return float(value)
    return value


def _fits(number: float) -> bool:
    """Whether it is one of the API server's integers, which have 64 bits."""
    return -(2**63) <= number < 2**63


def prune(value: Any, schema: Schema, path: str = "") -> list[str]:
    """Takes members that the schema does not know out of `value`; returns their paths."""
    is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(value, list) and not is_open:
        items = schema.get("items", {})
        return [lost for at, item in enumerate(value) for lost in prune(item, items, f"{path}[{at}]")]
    if not isinstance(value, dict):
        return []
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    lost = []
    for name in list(value):
        member = f"{path}.{name}" if path else name
        if path == "metadata" and name in _METADATA:
            continue
        if name in known or rest is not None:
            lost += prune(value[name], known.get(name, rest), member)
        elif not is_open:
            del value[name]
            lost.append(member)
    return lost


def fill(value: Any, schema: Schema) -> None:
    """Takes nulls out of `value` and puts the schema's defaults in, down to every member."""
    if isinstance(value, list):
        for item in value:
            fill(item, schema.get("items", {}))
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    for name in [name for name, member in value.items() if member is None and (name in known or rest)]:
        del value[name]
    for name, member in known.items():
        if "default" in member and name not in value:
            value[name] = copy.deepcopy(member["default"])
    for name in value:
        fill(value[name], known.get(name, rest or {}))


def find_map_item(items: Any, schema: Schema, like: Any) -> Any:
    """The item of a list of type map that has the same key as `like`; None when there is none."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(items, list):
        return None
    keys = schema["x-kubernetes-list-map-keys"]
    for item in items:
        if all(item.get(key) == like.get(key) for key in keys):
            return item
    return None
