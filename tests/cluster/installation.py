"""Headgate on the cluster, as a user installs it: the chart, and a server for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.kube import OPERATOR_NAMESPACE, ROOT, image_inputs
from cluster.valkey import valkey

if TYPE_CHECKING:
    from cluster.kube import Cluster

IN_CLUSTER_URL = f"redis://valkey.{OPERATOR_NAMESPACE}:6379"


def install(cluster: Cluster, *values: str) -> None:
    """Returns when the operator and its server work; installing again upgrades. `values` are for `helm --set`."""
    cluster.kubectl("create", "namespace", OPERATOR_NAMESPACE, check=False)
    cluster.apply(*valkey(OPERATOR_NAMESPACE))
    cluster.helm(
        "upgrade", "--install", "headgate", str(ROOT / "charts/headgate"), "--namespace", OPERATOR_NAMESPACE,
        "--set", "image.tag=dev", "--set", f"redis.url={IN_CLUSTER_URL}",
        # Images keep their tag: what was rebuilt since the cluster last ran must be what runs now.
        "--set-string", f"podAnnotations.built-from={image_inputs('operator')}", "--wait", "--timeout", "120s",
        *(option for value in values for option in ("--set", value)),
    )  # fmt: skip
    cluster.wait(OPERATOR_NAMESPACE, "deployment/valkey", "condition=Available", 60)
