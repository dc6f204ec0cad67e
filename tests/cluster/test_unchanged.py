"""A second reconcile of an unchanged pipeline writes nothing, not even by an operator that has just started."""

from __future__ import annotations

import time
from typing import Any

from cluster.kube import OPERATOR_NAMESPACE, wait_until
from cluster.video import NAME

# More than the 10 s between two writes of a status's figures.
SETTLE_SECONDS = 12
KINDS = "deployments,serviceaccounts,secrets"


def test_a_new_leader_writes_nothing(video):
    video.apply()
    wait_until("its workers", lambda: _calm(video), 60)
    time.sleep(SETTLE_SECONDS)
    before, leader = _objects(video), _leader(video)
    video.cluster.kubectl(
        "-n", OPERATOR_NAMESPACE, "delete", "pods", "-l", "app.kubernetes.io/component=operator"
    )
    wait_until("a new leader", lambda: _leader(video) not in {"", leader}, 60)
    video.cluster.wait(OPERATOR_NAMESPACE, "deployment/headgate", "condition=Available", 60)
    time.sleep(SETTLE_SECONDS)
    assert _objects(video) == before


def _calm(video) -> bool:
    branches = video.read()["status"]["branches"]
    return all(branch["readyReplicas"] == branch["desiredReplicas"] for branch in branches)


def _leader(video) -> str:
    lease = video.cluster.get(OPERATOR_NAMESPACE, "lease/headgate-operator")
    return str(lease["spec"].get("holderIdentity", ""))


def _objects(video) -> dict[str, dict[str, Any]]:
    """The pipeline, its status included, and all it owns, with their resource versions."""
    owned = video.cluster.items(video.namespace, KINDS, "-l", f"headgate.dev/pipeline={NAME}")
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in [video.read(), *owned]}
