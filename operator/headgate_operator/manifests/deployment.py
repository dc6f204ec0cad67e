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
from headgate_operator.manifests.overlay import merge
from headgate_operator.manifests.pod_guard import PodRules, check_pod, check_result

if TYPE_CHECKING:
    from headgate_operator.api import BranchSpec
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.manifests.redis import RedisSource
    from headgate_operator.pipeline import Pipeline

REDIS_FINGERPRINT = "headgate.dev/redis-fingerprint"
_SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(HTTP_PORT),
    "prometheus.io/path": "/metrics",
}
_GRACE_AFTER_DRAIN_SECONDS = 10  # to hand back what is unfinished, and to stop


def deployment(
    pipeline: Pipeline,
    branch: BranchSpec,
    redis: RedisSource,
    pushing_image: str | None,
    rules: PodRules | None = None,
) -> Manifest:
    """The Deployment of a branch, without `spec.replicas`.

    Raises Problem as `containers.worker` does, and when the branch makes of its pod what the rules do not allow.
    """
    rules = rules or PodRules()
    check_pod(pipeline, branch, rules)
    ours = labels(pipeline.name, branch.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pipeline, deployment_name(pipeline.name, branch.name), branch.name),
        "spec": {
            "selector": {"matchLabels": selector(pipeline.name, branch.name)},
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {
                    "labels": dict(branch.pod.labels or {}) | ours,
                    "annotations": _SCRAPED
                    | dict(branch.pod.annotations or {})
                    | {REDIS_FINGERPRINT: redis.fingerprint(pipeline.uid)},
                },
                "spec": _overlaid(pipeline, branch, _pod(pipeline, branch, redis, pushing_image), rules),
            },
        },
    }


def _overlaid(pipeline: Pipeline, branch: BranchSpec, pod: Manifest, rules: PodRules) -> Manifest:
    result = merge(pod, branch.pod.overlay or {}, harden=not rules.privileged)
    check_result(pipeline, branch, result, rules)
    return result


def _account(pipeline: Pipeline, branch: BranchSpec) -> Manifest:
    """Workers never talk to the API server; code that was given an account may: that one's own setting decides."""
    if branch.pod.service_account_name is not None:
        return {"serviceAccountName": branch.pod.service_account_name}
    return {
        "serviceAccountName": service_account_name(pipeline.name),
        "automountServiceAccountToken": False,
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
        **_account(pipeline, branch),
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(drain_seconds) + _GRACE_AFTER_DRAIN_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [worker(pipeline, branch, redis, pushing_image)],
        "volumes": volumes(branch),
    } | {name: value for name, value in optional.items() if value}
