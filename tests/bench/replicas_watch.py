"""A Deployment's spec.replicas over time, as the API server tells watchers."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.kube import Cluster


class ReplicasWatch:
    """Watches from when it is made until it is stopped."""

    def __init__(self, cluster: Cluster, namespace: str, deployment: str) -> None:
        path = 'jsonpath={.spec.replicas}{"\\n"}'
        command = [str(cluster.programs / "kubectl"), "--kubeconfig", str(cluster.kubeconfig)]
        command += ["--context", cluster.context, "-n", namespace, "get", f"deployment/{deployment}"]
        self.seen: list[tuple[float, int]] = []
        """(time of this machine's clock, replicas), oldest first: of every change of the object."""
        self._process = subprocess.Popen([*command, "--watch", "-o", path], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def last(self) -> int | None:
        """The replicas now; None before the first was told."""
        return self.seen[-1][1] if self.seen else None

    def first(self, since: float, least: int) -> float | None:
        """When there were at least so many, for the first time after `since`; None when not yet."""
        return next((at for at, replicas in self.seen if at > since and replicas >= least), None)

    def zero(self, since: float) -> float:
        """When there were none again, of those that were there after `since`; raises StopIteration when not yet."""
        later = iter([(at, replicas) for at, replicas in self.seen if at > since])
        next(at for at, replicas in later if replicas)
        return next(at for at, replicas in later if not replicas)

    def stop(self) -> list[tuple[float, int]]:
        """Ends, and gives all that was seen."""
        self._process.terminate()
        self._thread.join()
        self._process.wait()
        return self.seen

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seen.append((time.time(), int(line)))
