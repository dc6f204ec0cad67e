"""The kinds of object a pipeline has beside its Deployments, and how those that it wants no more are found.

A kind of which a pipeline has one object at most, of a known name, is looked up by that name: so the operator needs no
right to list Secrets. Any other is found by label, by one list a namespace after a start; a pipeline that has none of
it costs no call from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_operator.manifests.names import secret_name, service_account_name
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class ChildKind:
    """One kind of object. `problem` makes what to tell when the API server does not know the kind."""

    api_version: str
    kind: str
    sole_name: Callable[[str], str] | None = None
    """From a pipeline's name to that of the one object it may have; None: found by label."""
    problem: Callable[[], Problem] | None = None


def _no_keda() -> Problem:
    return Problem(
        "KedaNotInstalled",
        "spec.branches[].scale.engine: Keda: the API server knows no ScaledObject (keda.sh/v1alpha1): install KEDA, or"
        " choose the engine Pilot",
    )


SHARED = (
    ChildKind("v1", "ServiceAccount", service_account_name),
    ChildKind("v1", "Secret", secret_name),
    ChildKind("networking.k8s.io/v1", "NetworkPolicy"),
)
"""What the Deployments need before they start, in the order of their making."""

ENGINES = (
    ChildKind("autoscaling/v2", "HorizontalPodAutoscaler"),
    ChildKind("keda.sh/v1alpha1", "ScaledObject", problem=_no_keda),
)
"""What scales Deployments that are there; last what need not be known here."""
