"""Headgate on the cluster, as a user installs it: the chart, and a server for it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.kube import OPERATOR_NAMESPACE, ROOT, cluster_runs, image_inputs, start_cluster, stop_cluster
from cluster.valkey import valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.kube import Cluster

IN_CLUSTER_URL = f"redis://valkey.{OPERATOR_NAMESPACE}:6379"


@contextmanager
def installed(namespace: str, say: Callable[[str], None]) -> Iterator[tuple[Cluster, str]]:
    """A cluster with headgate and a new namespace on it, and its server's URL on this machine.

    One that runs is used and left running.
    """
    ran_before = cluster_runs()
    try:
        say("starting the cluster, with images and operator")
        cluster = start_cluster()
        install(cluster)
        with (
            cluster.namespace(namespace),
            cluster.forward(OPERATOR_NAMESPACE, "deployment/valkey", 6379) as address,
        ):
            yield cluster, f"redis://{address}"
    finally:
        if not ran_before:
            stop_cluster()


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
