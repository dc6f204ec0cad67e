"""The objects of engines, each named like the Deployment it scales: a ScaledObject or a HorizontalPodAutoscaler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_operator.api import ScaleEngine
from headgate_operator.engines.choice import fewest, in_force
from headgate_operator.manifests.names import deployment_name, metadata
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from headgate_operator.api import BranchSpec
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.pipeline import Pipeline

EXTERNAL_METRIC = "headgate_branch_replicas_desired"
"""Metric of the operator that a HorizontalPodAutoscaler follows, as the metrics adapter is to serve it."""
_PERIOD_SECONDS = 15  # of an autoscaler's policies, and how often it looks
_ALL_PODS = 1000  # more than scale.max may be


def manifests(pipeline: Pipeline, scaler_address: str | None) -> list[Manifest]:
    """The engines' objects that the pipeline should have; KEDA reaches the operator at `scaler_address`, host:port.

    Raises Problem when a branch wants KEDA and there is no such address.
    """
    found = []
    for branch in pipeline.spec.branches:
        engine = in_force(pipeline, branch.name)
        if engine is ScaleEngine.KEDA:
            found.append(scaled_object(pipeline, branch, scaler_address))
        elif engine is ScaleEngine.HPA:
            found.append(horizontal_pod_autoscaler(pipeline, branch))
    return found


def scaled_object(pipeline: Pipeline, branch: BranchSpec, scaler_address: str | None) -> Manifest:
    """The ScaledObject of a branch. Raises Problem without an address."""
    if scaler_address is None:
        raise Problem(
            "NoScalerAddress",
            f"spec.branches[{branch.name}].scale.engine: Keda: the operator does not know at which address KEDA reaches"
            " it: set its HEADGATE_SCALER_ADDRESS to host:port, as the chart does, or choose the engine Pilot",
        )
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(pipeline, deployment_name(pipeline.name, branch.name), branch.name),
        "spec": {
            "scaleTargetRef": _target(pipeline, branch),
            "minReplicaCount": branch.scale.min,
            "maxReplicaCount": branch.scale.max,
            # The decision has waited for scaleDownAfterSeconds before it says zero.
            "cooldownPeriod": 0,
            "advanced": {
                # Whoever scales next goes on from where KEDA leaves off.
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {"behavior": _behavior()},
            },
            "triggers": [
                {
                    "type": "external-push",
                    "metricType": "AverageValue",
                    "metadata": {
                        "scalerAddress": scaler_address,
                        "pipeline": pipeline.name,
                        "branch": branch.name,
                    },
                }
            ],
        },
    }


def horizontal_pod_autoscaler(pipeline: Pipeline, branch: BranchSpec) -> Manifest:
    """The HorizontalPodAutoscaler of a branch. It keeps one worker at least: zero needs a feature gate."""
    least = fewest(pipeline, branch.name)
    names = {"pipeline": pipeline.name, "branch": branch.name}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(pipeline, deployment_name(pipeline.name, branch.name), branch.name),
        "spec": {
            "scaleTargetRef": _target(pipeline, branch),
            "minReplicas": least,
            "maxReplicas": max(least, branch.scale.max),
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": EXTERNAL_METRIC, "selector": {"matchLabels": names}},
                        "target": {"type": "AverageValue", "averageValue": "1"},
                    },
                }
            ],
            "behavior": _behavior(),
        },
    }


def _target(pipeline: Pipeline, branch: BranchSpec) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment_name(pipeline.name, branch.name),
    }


def _behavior() -> Manifest:
    """At once in both directions: the decision is steady by itself, and to wait again would only be late."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": _ALL_PODS, "periodSeconds": _PERIOD_SECONDS}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": _PERIOD_SECONDS}],
        },
    }
