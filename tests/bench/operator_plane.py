"""A control plane whose nodes and pods are only played (KWOK): as many as one likes, on one machine.

API server, controller manager and scheduler are the real ones, with their own limits on calls lifted: with 20 calls a
second, the controller manager's default, it would take most of an hour for a thousand pipelines, and it is not what is
measured.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.apiserver import ApiServer

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES = 4
PODS_A_NODE = 1000
_HACK = Path(__file__).parents[2] / "hack" / "cluster"
_RATE = ("--kube-api-qps=2000", "--kube-api-burst=4000")


class ControlPlane(ApiServer):
    """`start` gives it without nodes; `populate` starts what makes pods of Deployments and lets them run."""

    def populate(self) -> None:
        """Starts controllers, scheduler and KWOK, and its nodes."""
        programs = Path(_output([str(_HACK / "programs"), "kube-controller-manager", "kube-scheduler"]))
        kubeconfig = f"--kubeconfig={self.kubeconfig}"
        self._spawn(
            str(programs / "kube-controller-manager"),
            kubeconfig,
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={self.directory}/sa.key",
            f"--root-ca-file={self.directory}/pki/apiserver.crt",
            *_RATE,
        )
        self._spawn(
            str(programs / "kube-scheduler"), kubeconfig, "--leader-elect=false", "--secure-port=0", *_RATE
        )
        kwok = Path(_output([str(_HACK / "kwok")]))
        self._spawn(
            str(kwok / "kwok"),
            kubeconfig,
            "--manage-all-nodes",
            f"--config={kwok}/stages.yaml",
            "--node-lease-duration-seconds=60",
        )
        for number in range(NODES):
            made = self.kubectl("apply", "-f", "-", given=_node(number))
            if made.returncode:
                raise RuntimeError(f"no node: {made.stderr}")


def _node(number: int) -> dict[str, object]:
    room = {"cpu": "1000", "memory": "4000Gi", "pods": str(PODS_A_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"played-{number}", "labels": {"kubernetes.io/os": "linux"}},
        "status": {"allocatable": room, "capacity": room},
    }


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout.strip()
