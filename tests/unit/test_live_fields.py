"""Every field of a spec may be changed while events flow: which way a change gets to what runs, or why it is refused.

The ways: `workers` (the Deployments' templates, rolled out by Kubernetes), `shared` (the pipeline's other objects),
`engine` (the objects of KEDA or of an autoscaler), `groups` and `source` (what the server is told, for publishers,
readers and sweeps), `pilot` (what the next second's decisions are made from), `joins` (how joins end that time out).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator import engines, inputs, topology
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.crd import schema
from headgate_operator.manifests import RedisSource, children
from headgate_operator.pipeline import Pipeline, load_pipeline
from headgate_operator.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = {
    "levels": [
        {"name": "Delay", "lag": 100, "ageSeconds": 60, "releaseLag": 50, "delay": ["Low"], "reject": ["Low"]}
    ],
    "maxDelaySeconds": 900,
    "deadlineSeconds": 1800,
    "shares": {"normal": 2, "low": 1},
}
_BREAKER = {"failures": 5, "openSeconds": 30}
SPEC: dict[str, Any] = {
    "redis": {"secretRef": {"name": "redis-url", "key": "url"}},
    "source": {
        "partitions": 2,
        "dedupeWindowSeconds": 600,
        "schema": {"type": "object"},
        "retention": {"keepSeconds": 0, "maxAgeSeconds": 86400, "maxEvents": 1000},
        "durability": {"mode": "Replicated", "replicas": 1, "timeoutSeconds": 1},
    },
    "branches": [
        {
            "name": "full",
            "filter": "event.data.a > 1",
            "startAt": "Now",
            "handler": {"python": {"image": "i:1", "function": "m:f", "executor": "Threads"}},
            "ordering": "None",
            "batch": {"maxEvents": 10, "maxWaitSeconds": 1},
            "rateLimit": {"eventsPerSecond": 100},
            "concurrency": 8,
            "timeoutSeconds": 300,
            "retry": {
                "maxAttempts": 5,
                "initialSeconds": 1,
                "factor": 2,
                "maxSeconds": 300,
                "rules": [{"match": "^ValueError", "retryable": False}],
            },
            "scale": {
                "engine": "Pilot",
                "min": 1,
                "max": 5,
                "drainWithinSeconds": 30,
                "scaleDownAfterSeconds": 60,
                "maxAgeSeconds": 60,
                "maxStep": 3,
                "schedule": [
                    {
                        "name": "day",
                        "start": "0 8 * * 1-5",
                        "end": "0 18 * * 1-5",
                        "timezone": "UTC",
                        "min": 2,
                    }
                ],
            },
            "backpressure": _LEVELS,
            "paused": False,
            "pod": {
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "envFrom": [
                    {"prefix": "P_", "configMapRef": {"name": "c", "optional": True}},
                    {"secretRef": {"name": "s", "optional": True}},
                ],
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [
                    {
                        "key": "k",
                        "operator": "Equal",
                        "value": "v",
                        "effect": "NoExecute",
                        "tolerationSeconds": 5,
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/scratch", "subPath": "a", "readOnly": False}],
                "imagePullPolicy": "Always",
                "imagePullSecrets": [{"name": "pull"}],
                "serviceAccountName": "worker",
                "labels": {"team": "a"},
                "annotations": {"note": "a"},
                "overlay": {"priorityClassName": "low"},
            },
        },
        {
            "name": "pushes",
            "handler": {
                "http": {
                    "url": "https://a.example/",
                    "signingSecretRef": {"name": "sign", "key": "key"},
                    "allowNetworks": ["10.0.0.0/8"],
                    "circuitBreaker": _BREAKER,
                }
            },
        },
        {
            "name": "beside",
            "handler": {
                "container": {
                    "image": "c:1",
                    "port": 8000,
                    "path": "/",
                    "command": ["run"],
                    "args": ["x"],
                    "circuitBreaker": _BREAKER,
                }
            },
        },
    ],
    "join": {
        "branches": ["full", "pushes"],
        "complete": "Quorum",
        "quorum": 1,
        "timeoutSeconds": 600,
        "onTimeout": "EmitPartial",
        "output": {"pipeline": "next"},
    },
    "backpressure": _LEVELS,
    "paused": False,
    "onRemove": "Drain",
    "networkPolicy": {"egress": [{"cidr": "10.0.0.0/8", "ports": [443]}]},
}

_WORKERS, _PILOT, _BOTH = {"workers"}, {"pilot"}, {"workers", "pilot"}
_FULL, _PUSHES, _BESIDE = "branches[0]", "branches[1].handler.http", "branches[2].handler.container"
CHANGES: dict[str, tuple[str, Any, set[str]]] = {
    "redis.secretRef.name": ("redis.secretRef.name", "other", _WORKERS),
    "redis.secretRef.key": ("redis.secretRef.key", "other", _WORKERS),
    "source.partitions": ("source.partitions", 3, {"workers", "groups"}),
    "source.dedupeWindowSeconds": ("source.dedupeWindowSeconds", 60, {"source"}),
    "source.schema": ("source.schema", {"type": "array"}, {"source", "workers"}),
    "source.retention.keepSeconds": ("source.retention.keepSeconds", 5, {"source"}),
    "source.retention.maxAgeSeconds": ("source.retention.maxAgeSeconds", 5, {"source"}),
    "source.retention.maxEvents": ("source.retention.maxEvents", 5, {"source"}),
    "source.durability.mode": ("source.durability.mode", "Acknowledged", {"source"}),
    "source.durability.replicas": ("source.durability.replicas", 2, {"source"}),
    "source.durability.timeoutSeconds": ("source.durability.timeoutSeconds", 2, {"source"}),
    # A new branch, and one less.
    "branches[].name": ("branches[2].name", "renamed", {"workers", "groups", "pilot"}),
    "branches[].filter": (f"{_FULL}.filter", "true", _WORKERS),
    # Told to the server each time, which reads it when it makes the branch, and never again.
    "branches[].startAt": (f"{_FULL}.startAt", "Beginning", {"groups"}),
    "branches[].handler.python.image": (f"{_FULL}.handler.python.image", "i:2", _WORKERS),
    "branches[].handler.python.function": (f"{_FULL}.handler.python.function", "m:g", _WORKERS),
    "branches[].handler.python.executor": (f"{_FULL}.handler.python.executor", "Processes", _WORKERS),
    "branches[].handler.http.url": (f"{_PUSHES}.url", "https://b.example/", _WORKERS),
    "branches[].handler.http.signingSecretRef.name": (f"{_PUSHES}.signingSecretRef.name", "other", _WORKERS),
    "branches[].handler.http.signingSecretRef.key": (f"{_PUSHES}.signingSecretRef.key", "other", _WORKERS),
    "branches[].handler.http.allowNetworks": (f"{_PUSHES}.allowNetworks", [], _WORKERS),
    "branches[].handler.http.circuitBreaker.failures": (f"{_PUSHES}.circuitBreaker.failures", 9, _WORKERS),
    "branches[].handler.http.circuitBreaker.openSeconds": (
        f"{_PUSHES}.circuitBreaker.openSeconds",
        9,
        _WORKERS,
    ),
    "branches[].handler.container.image": (f"{_BESIDE}.image", "c:2", _WORKERS),
    "branches[].handler.container.port": (f"{_BESIDE}.port", 9000, _WORKERS),
    "branches[].handler.container.path": (f"{_BESIDE}.path", "/x", _WORKERS),
    "branches[].handler.container.command": (f"{_BESIDE}.command", ["go"], _WORKERS),
    "branches[].handler.container.args": (f"{_BESIDE}.args", ["y"], _WORKERS),
    "branches[].handler.container.circuitBreaker.failures": (
        f"{_BESIDE}.circuitBreaker.failures",
        9,
        _WORKERS,
    ),
    "branches[].handler.container.circuitBreaker.openSeconds": (
        f"{_BESIDE}.circuitBreaker.openSeconds",
        9,
        _WORKERS,
    ),
    # Ordered, it cannot use more workers than there are partitions.
    "branches[].ordering": (f"{_FULL}.ordering", "Key", {"workers", "groups", "pilot"}),
    "branches[].batch.maxEvents": (f"{_FULL}.batch.maxEvents", 20, _WORKERS),
    "branches[].batch.maxWaitSeconds": (f"{_FULL}.batch.maxWaitSeconds", 2, _WORKERS),
    "branches[].rateLimit.eventsPerSecond": (f"{_FULL}.rateLimit.eventsPerSecond", 5, _BOTH),
    "branches[].concurrency": (f"{_FULL}.concurrency", 4, _BOTH),
    "branches[].timeoutSeconds": (f"{_FULL}.timeoutSeconds", 30, _WORKERS),
    "branches[].retry.maxAttempts": (f"{_FULL}.retry.maxAttempts", 3, _WORKERS),
    "branches[].retry.initialSeconds": (f"{_FULL}.retry.initialSeconds", 2, _WORKERS),
    "branches[].retry.factor": (f"{_FULL}.retry.factor", 3, _WORKERS),
    "branches[].retry.maxSeconds": (f"{_FULL}.retry.maxSeconds", 30, _WORKERS),
    "branches[].retry.rules[].match": (f"{_FULL}.retry.rules[0].match", "^KeyError", _WORKERS),
    "branches[].retry.rules[].retryable": (f"{_FULL}.retry.rules[0].retryable", True, _WORKERS),
    "branches[].scale.engine": (f"{_FULL}.scale.engine", "Keda", {"engine"}),
    "branches[].scale.min": (f"{_FULL}.scale.min", 2, _PILOT),
    "branches[].scale.max": (f"{_FULL}.scale.max", 6, _PILOT),
    "branches[].scale.drainWithinSeconds": (f"{_FULL}.scale.drainWithinSeconds", 5, _PILOT),
    "branches[].scale.scaleDownAfterSeconds": (f"{_FULL}.scale.scaleDownAfterSeconds", 5, _PILOT),
    "branches[].scale.maxAgeSeconds": (f"{_FULL}.scale.maxAgeSeconds", 5, _PILOT),
    "branches[].scale.maxStep": (f"{_FULL}.scale.maxStep", 2, _PILOT),
    # What tells the entries of the list apart, and nothing else.
    "branches[].scale.schedule[].name": (f"{_FULL}.scale.schedule[0].name", "days", set()),
    "branches[].scale.schedule[].start": (f"{_FULL}.scale.schedule[0].start", "0 9 * * *", _PILOT),
    "branches[].scale.schedule[].end": (f"{_FULL}.scale.schedule[0].end", "0 9 * * *", _PILOT),
    "branches[].scale.schedule[].timezone": (
        f"{_FULL}.scale.schedule[0].timezone",
        "Europe/Berlin",
        _PILOT,
    ),
    "branches[].scale.schedule[].min": (f"{_FULL}.scale.schedule[0].min", 3, _PILOT),
    "branches[].paused": (f"{_FULL}.paused", True, {"groups", "pilot"}),
    "branches[].pod.resources.requests": (f"{_FULL}.pod.resources.requests", {"cpu": "1"}, _WORKERS),
    "branches[].pod.resources.limits": (f"{_FULL}.pod.resources.limits", {"memory": "1Gi"}, _WORKERS),
    "branches[].pod.env[].name": (f"{_FULL}.pod.env[0].name", "C", _WORKERS),
    "branches[].pod.env[].value": (f"{_FULL}.pod.env[0].value", "2", _WORKERS),
    "branches[].pod.env[].valueFrom": (
        f"{_FULL}.pod.env[1].valueFrom",
        {"fieldRef": {"fieldPath": "metadata.uid"}},
        _WORKERS,
    ),
    "branches[].pod.envFrom[].prefix": (f"{_FULL}.pod.envFrom[0].prefix", "Q_", _WORKERS),
    "branches[].pod.envFrom[].configMapRef.name": (
        f"{_FULL}.pod.envFrom[0].configMapRef.name",
        "d",
        _WORKERS,
    ),
    "branches[].pod.envFrom[].configMapRef.optional": (
        f"{_FULL}.pod.envFrom[0].configMapRef.optional",
        False,
        _WORKERS,
    ),
    "branches[].pod.envFrom[].secretRef.name": (f"{_FULL}.pod.envFrom[1].secretRef.name", "t", _WORKERS),
    "branches[].pod.envFrom[].secretRef.optional": (
        f"{_FULL}.pod.envFrom[1].secretRef.optional",
        False,
        _WORKERS,
    ),
    "branches[].pod.nodeSelector": (f"{_FULL}.pod.nodeSelector", {"disk": "hdd"}, _WORKERS),
    "branches[].pod.tolerations[].key": (f"{_FULL}.pod.tolerations[0].key", "l", _WORKERS),
    "branches[].pod.tolerations[].operator": (f"{_FULL}.pod.tolerations[0].operator", "Exists", _WORKERS),
    "branches[].pod.tolerations[].value": (f"{_FULL}.pod.tolerations[0].value", "w", _WORKERS),
    "branches[].pod.tolerations[].effect": (f"{_FULL}.pod.tolerations[0].effect", "NoSchedule", _WORKERS),
    "branches[].pod.tolerations[].tolerationSeconds": (
        f"{_FULL}.pod.tolerations[0].tolerationSeconds",
        9,
        _WORKERS,
    ),
    "branches[].pod.volumes[].name": (f"{_FULL}.pod.volumes[0].name", "scratch", _WORKERS),
    "branches[].pod.volumeMounts[].name": (f"{_FULL}.pod.volumeMounts[0].name", "scratch", _WORKERS),
    "branches[].pod.volumeMounts[].mountPath": (f"{_FULL}.pod.volumeMounts[0].mountPath", "/m", _WORKERS),
    "branches[].pod.volumeMounts[].subPath": (f"{_FULL}.pod.volumeMounts[0].subPath", "b", _WORKERS),
    "branches[].pod.volumeMounts[].readOnly": (f"{_FULL}.pod.volumeMounts[0].readOnly", True, _WORKERS),
    "branches[].pod.imagePullPolicy": (f"{_FULL}.pod.imagePullPolicy", "Never", _WORKERS),
    "branches[].pod.imagePullSecrets[].name": (f"{_FULL}.pod.imagePullSecrets[0].name", "other", _WORKERS),
    "branches[].pod.serviceAccountName": (f"{_FULL}.pod.serviceAccountName", "other", _WORKERS),
    "branches[].pod.labels": (f"{_FULL}.pod.labels", {"team": "b"}, _WORKERS),
    "branches[].pod.annotations": (f"{_FULL}.pod.annotations", {"note": "b"}, _WORKERS),
    "branches[].pod.overlay": (f"{_FULL}.pod.overlay", {"priorityClassName": "high"}, _WORKERS),
    "join.branches": ("join.branches", ["full", "beside"], {"workers", "joins"}),
    "join.complete": ("join.complete", "Any", {"workers", "joins"}),
    "join.quorum": ("join.quorum", 2, {"workers", "joins"}),
    "join.timeoutSeconds": ("join.timeoutSeconds", 60, {"workers", "joins"}),
    "join.onTimeout": ("join.onTimeout", "DeadLetter", {"workers", "joins"}),
    "join.output.pipeline": ("join.output.pipeline", "other", {"workers", "joins"}),
    "paused": ("paused", True, {"groups", "pilot"}),
    "onRemove": ("onRemove", "Delete", {"groups"}),
    "networkPolicy.egress[].cidr": ("networkPolicy.egress[0].cidr", "10.1.0.0/16", {"shared"}),
    "networkPolicy.egress[].ports": ("networkPolicy.egress[0].ports", [80], {"shared"}),
}
for _field, _value, _ways in (
    ("levels[].name", "Other", _PILOT),
    ("levels[].lag", 200, _PILOT),
    ("levels[].ageSeconds", 30, _PILOT),
    ("levels[].releaseLag", 20, _PILOT),
    ("levels[].delay", ["Low", "Normal"], _PILOT),
    ("levels[].reject", ["Low", "Normal"], _PILOT),
    ("maxDelaySeconds", 30, _PILOT),
    ("deadlineSeconds", 3600, _PILOT),
    ("shares.normal", 3, _WORKERS),
    ("shares.low", 2, _WORKERS),
):
    for _owner, _at in (("branches[].", f"{_FULL}."), ("", "")):
        _path = f"{_at}backpressure.{_field.replace('[]', '[0]')}"
        CHANGES[f"{_owner}backpressure.{_field}"] = (_path, _value, _ways)


def leaves(node: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of all fields that have no fields of their own."""
    items = node.get("items", {})
    if "properties" in node:
        for name, member in node["properties"].items():
            yield from leaves(member, f"{path}.{name}" if path else name)
    elif "properties" in items:
        yield from leaves(items, f"{path}[]")
    else:
        yield path


def steps(path: str) -> list[str | int]:
    """A path as keys and places."""
    found: list[str | int] = []
    for part in path.split("."):
        name, _, place = part.partition("[")
        found.append(name)
        if place:
            found.append(int(place.rstrip("]")))
    return found


def changed(path: str, value: object) -> dict[str, Any]:
    """The spec with one field changed, and with it what must have the same value."""
    spec = copy.deepcopy(SPEC)
    *way, last = steps(path)
    node: Any = spec
    for step in way:
        node = node[step]
    assert node[last] != value
    node[last] = value
    if path.endswith("pod.volumes[0].name"):
        spec["branches"][0]["pod"]["volumeMounts"][0]["name"] = value
    if path.endswith("pod.volumeMounts[0].name"):
        spec["branches"][0]["pod"]["volumes"].append({"name": value, "emptyDir": {}})
    if path.endswith("tolerations[0].operator"):
        del node["value"]
    if path == "join.complete":
        del spec["join"]["quorum"]
    return spec


def manifest(spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "orders", "uid": "u-1"}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def effects(pipeline: Pipeline) -> dict[str, Any]:
    """All that is made of a spec, by the way it takes."""
    assert pipeline.spec.redis is not None
    ref = pipeline.spec.redis.secret_ref
    wanted = children(pipeline, RedisSource(ref.name, ref.key, "redis://r", owned=False), "push:1")
    branches = pipeline.spec.branches
    return {
        "workers": wanted.deployments,
        "shared": wanted.shared,
        "engine": engines.manifests(pipeline, "operator:9"),
        "groups": (pipeline.keys.partitions, topology._starts(pipeline), topology._removal(pipeline)),
        "source": pipeline.source.to_fields(),
        "pilot": [
            (
                branch.name,
                pipeline.spec.paused or branch.paused,
                inputs.limits(pipeline, branch),
                inputs.schedule(branch),
                inputs.levels(pipeline, branch),
                (gate := inputs.backpressure_of(pipeline, branch)) and gate.max_delay_seconds,
                gate and gate.deadline_seconds,
            )
            for branch in branches
        ],
        "joins": pipeline.join,
    }


def test_every_field_of_the_api_is_in_the_table():
    assert set(leaves(schema()["properties"]["spec"], "")) == set(CHANGES)


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_a_change_is_allowed_and_gets_to_what_runs(field: str):
    path, value, ways = CHANGES[field]
    after = changed(path, value)
    assert validate(manifest(after), old=manifest(SPEC)) == []
    was, now = effects(load_pipeline(manifest(SPEC))), effects(load_pipeline(manifest(after)))
    assert {way for way in was if was[way] != now[way]} == ways


def test_fewer_partitions_are_refused_with_the_reason_and_the_remedy():
    (mistake,) = validate(manifest(changed("source.partitions", 1)), old=manifest(SPEC))
    assert "source.partitions" in str(mistake)
    assert "must not shrink: events of the removed partitions would be lost" in str(mistake)
    assert "make a new pipeline with fewer" in mistake.remedy
