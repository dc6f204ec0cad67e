"""The node's own view of processes: the only place from which a pod's process can be killed without its consent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.kube import OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from cluster.kube import Cluster, Manifest

POD = "node"

_KILL = """
import os, pathlib, signal, sys
mark = sys.argv[1].encode()
killed = 0
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        environment = (process / "environ").read_bytes().split(b"\\0")
        status = (process / "status").read_text()
    except OSError:
        continue
    inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
    if mark in environment and inner == "1":  # the container's first process: the kernel kills all others with it
        os.kill(int(process.name), signal.SIGKILL)
        killed += 1
print(killed)
"""


@dataclass(frozen=True)
class Node:
    """A privileged pod that sees the node's processes."""

    cluster: Cluster

    def start(self) -> None:
        """Returns when the pod is there."""
        self.cluster.apply(_pod())
        self.cluster.wait(OPERATOR_NAMESPACE, f"pod/{POD}", "condition=Ready", 60)

    def kill_worker(self, pod: str) -> int:
        """SIGKILL to the worker process of a pod; gives the number of processes found and killed."""
        return self._kill(f"HEADGATE_CONSUMER={pod}")

    def kill_container(self, pod: str) -> int:
        """SIGKILL to the first process of each container of a pod; gives their number."""
        return self._kill(f"HOSTNAME={pod}")

    def _kill(self, variable: str) -> int:
        command = ("exec", POD, "--", "python3", "-c", _KILL, variable)
        return int(self.cluster.kubectl("-n", OPERATOR_NAMESPACE, *command).stdout)


def _pod() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": OPERATOR_NAMESPACE},
        "spec": {
            "hostPID": True,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "node",
                    "image": "headgate/valkey:dev",
                    "command": ["sleep", "infinity"],
                    "securityContext": {"privileged": True, "runAsUser": 0},
                }
            ],
        },
    }
