"""A branch's Deployment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headgate_operator.manifests.names import (
    deployment_name,
    labels,
    metadata,
    selector,
    service_account_name,
)
from headgate_operator.manifests.redis import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from headgate_operator.api import BranchSpec, PodSpec
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.manifests.redis import RedisSource
    from headgate_operator.pipeline import Pipeline

CONTAINER = "worker"
HTTP_PORT = 9100
REDIS_FINGERPRINT = "headgate.dev/redis-fingerprint"
_SCRATCH = "headgate-tmp"
_GRACE_AFTER_DRAIN_SECONDS = 10  # to hand back what is unfinished, and to stop


def deployment(pipeline: Pipeline, branch: BranchSpec, redis: RedisSource) -> Manifest:
    """The Deployment of a branch, without `spec.replicas`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pipeline, deployment_name(pipeline.name, branch.name), branch.name),
        "spec": {
            "selector": {"matchLabels": selector(pipeline.name, branch.name)},
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {
                    "labels": labels(pipeline.name, branch.name),
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(HTTP_PORT),
                        "prometheus.io/path": "/metrics",
                        REDIS_FINGERPRINT: fingerprint(redis.url, pipeline.uid),
                    },
                },
                "spec": _pod(pipeline, branch, redis),
            },
        },
    }


def _pod(pipeline: Pipeline, branch: BranchSpec, redis: RedisSource) -> Manifest:
    contract = pipeline.contract(branch.name)
    pod = branch.pod
    optional = {
        "nodeSelector": pod.node_selector,
        "tolerations": _dump(pod.tolerations),
        "imagePullSecrets": _dump(pod.image_pull_secrets),
    }
    return {
        "serviceAccountName": service_account_name(pipeline.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(contract.drain_seconds) + _GRACE_AFTER_DRAIN_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(pipeline, branch, redis)],
        "volumes": [*_dump(pod.volumes), *([{"name": _SCRATCH, "emptyDir": {}}] if _needs_tmp(pod) else [])],
    } | {name: value for name, value in optional.items() if value}


def _container(pipeline: Pipeline, branch: BranchSpec, redis: RedisSource) -> Manifest:
    handler, pod = branch.handler.python, branch.pod
    mounts = [
        *_dump(pod.volume_mounts),
        *([{"name": _SCRATCH, "mountPath": "/tmp"}] if _needs_tmp(pod) else []),  # noqa: S108
    ]
    optional: Mapping[str, Any] = {
        "imagePullPolicy": pod.image_pull_policy and pod.image_pull_policy.value,
        "envFrom": _dump(pod.env_from),
        "resources": pod.resources and _dump([pod.resources])[0],
    }
    return {
        "name": CONTAINER,
        "image": handler.image,
        "command": ["headgate"],
        "args": ["worker", "--function", handler.function],
        "env": _env(pipeline, branch, redis),
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Start-up imports the handler's module, which may take a while; after it, readiness is wanted at once.
        "startupProbe": _probe("/healthz", period=1, failures=120, delay=2),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
    } | {name: value for name, value in optional.items() if value}


def _env(pipeline: Pipeline, branch: BranchSpec, redis: RedisSource) -> list[Manifest]:
    ours: list[Manifest] = [
        {"name": "HEADGATE_CONTRACT", "value": pipeline.contract(branch.name).encode()},
        {
            "name": "HEADGATE_REDIS_URL",
            "valueFrom": {"secretKeyRef": {"name": redis.secret, "key": redis.key}},
        },
        {"name": "HEADGATE_CONSUMER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "HEADGATE_HTTP_PORT", "value": str(HTTP_PORT)},
    ]
    # A name may stand in the list once only; the worker's own wiring is not the manifest's to change.
    taken = {variable["name"] for variable in ours}
    return ours + [variable for variable in _dump(branch.pod.env) if variable["name"] not in taken]


def _needs_tmp(pod: PodSpec) -> bool:
    return all(mount.mount_path.rstrip("/") != "/tmp" for mount in pod.volume_mounts)  # noqa: S108


def _probe(path: str, *, period: int, failures: int, delay: int = 0) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    } | ({"initialDelaySeconds": delay} if delay else {})


def _dump(models: Sequence[BaseModel]) -> list[Manifest]:
    return [model.model_dump(mode="json", by_alias=True, exclude_none=True) for model in models]
