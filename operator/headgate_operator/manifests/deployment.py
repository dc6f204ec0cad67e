"""A branch's Deployment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headgate_operator.manifests.containers import HTTP_PORT, beside, dump, volumes, worker
from headgate_operator.manifests.names import (
    deployment_name,
    labels,
    metadata,
    selector,
    service_account_name,
)
from headgate_operator.manifests.redis import fingerprint

if TYPE_CHECKING:
    from headgate_operator.api import BranchSpec
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.manifests.redis import RedisSource
    from headgate_operator.pipeline import Pipeline

REDIS_FINGERPRINT = "headgate.dev/redis-fingerprint"
_GRACE_AFTER_DRAIN_SECONDS = 10  # to hand back what is unfinished, and to stop


def deployment(
    pipeline: Pipeline, branch: BranchSpec, redis: RedisSource, pushing_image: str | None
) -> Manifest:
    """The Deployment of a branch, without `spec.replicas`; raises Problem as `containers.worker` does."""
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
                "spec": _pod(pipeline, branch, redis, pushing_image),
            },
        },
    }


def _pod(pipeline: Pipeline, branch: BranchSpec, redis: RedisSource, pushing_image: str | None) -> Manifest:
    pod = branch.pod
    optional = {
        "initContainers": beside(branch),
        "nodeSelector": pod.node_selector,
        "tolerations": dump(pod.tolerations),
        "imagePullSecrets": dump(pod.image_pull_secrets),
    }
    drain_seconds = pipeline.contract(branch.name).drain_seconds
    return {
        "serviceAccountName": service_account_name(pipeline.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(drain_seconds) + _GRACE_AFTER_DRAIN_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [worker(pipeline, branch, redis, pushing_image)],
        "volumes": volumes(branch),
    } | {name: value for name, value in optional.items() if value}
