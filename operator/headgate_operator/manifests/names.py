"""Names, labels and owners of a pipeline's children; every name follows from the pipeline's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_operator.api import API_VERSION, KIND

if TYPE_CHECKING:
    from headgate_operator.pipeline import Pipeline

Manifest = dict[str, Any]
"""A Kubernetes object as JSON has it."""

PIPELINE_LABEL = "headgate.dev/pipeline"
BRANCH_LABEL = "headgate.dev/branch"
MANAGED = {"app.kubernetes.io/managed-by": "headgate"}
"""The label that finds all children of all pipelines."""


def deployment_name(pipeline: str, branch: str) -> str:
    """Name of the Deployment of a branch."""
    return f"{pipeline}-{branch}"


def service_account_name(pipeline: str) -> str:
    """Name of the ServiceAccount of all workers of a pipeline."""
    return f"{pipeline}-workers"


def secret_name(pipeline: str) -> str:
    """Name of the Secret with the URL of the operator's own server."""
    return f"{pipeline}-headgate-redis"


def network_policy_name(pipeline: str) -> str:
    """Name of the NetworkPolicy of all workers of a pipeline."""
    return f"{pipeline}-workers"


def selector(pipeline: str, branch: str | None = None) -> dict[str, str]:
    """The labels that find a pipeline's children, or one branch's; they never change, as selectors may not."""
    return {PIPELINE_LABEL: pipeline} | ({BRANCH_LABEL: branch} if branch is not None else {})


def labels(pipeline: str, branch: str | None = None) -> dict[str, str]:
    """All labels of a child: those of `selector`, and the ones Kubernetes recommends."""
    return {
        "app.kubernetes.io/name": "headgate-worker",
        "app.kubernetes.io/instance": pipeline,
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "headgate",
    } | (MANAGED | selector(pipeline, branch))


def metadata(pipeline: Pipeline, name: str, branch: str | None = None) -> Manifest:
    """Metadata of a child: owned by the pipeline, so that it goes when the pipeline goes."""
    return {
        "namespace": pipeline.namespace,
        "name": name,
        "labels": labels(pipeline.name, branch),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": pipeline.name,
                "uid": pipeline.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
