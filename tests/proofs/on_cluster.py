"""An example in a namespace of a cluster: `kubectl apply`, and the server seen through a forwarded port."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import yaml

from cluster.kube import OPERATOR_NAMESPACE
from cluster.node import Node
from headgate.streams import ServerUnavailableError
from proofs.stage import Stage

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from cluster.kube import Cluster

_SILENT_SECONDS = 60
_WORKERS = "app.kubernetes.io/name=headgate-worker"


class ClusterStage(Stage):
    """One example in a namespace of its own."""

    def __init__(
        self,
        example: str,
        cluster: Cluster,
        namespace: str,
        url: str,
        dice: random.Random,
        *,
        is_chaotic: bool,
    ) -> None:
        super().__init__(example, namespace, url, dice, is_chaotic=is_chaotic)
        self.cluster = cluster
        self._node = Node(cluster)

    async def _apply(self, files: list[str]) -> None:
        await asyncio.to_thread(self._node.start)
        for file in files:
            await self._kubectl("apply", "-f", str(self.folder / file))
        for pipeline in self.pipelines:
            waiting = (f"fanoutpipeline/{pipeline}", "--for=condition=Ready", "--timeout=60s")
            await self._kubectl("wait", *waiting)

    async def workers(self) -> dict[str, int]:
        return dict(Counter(where for where, _ in await self._pods()))

    async def kill(self, where: str = "") -> str:
        """SIGKILL from the node, as even a deletion by force leaves a time to drain; then the pod is deleted.

        Its Deployment makes another, without the back-off of a container that is started again.
        """
        try:
            at_work = await self.at_work(where)
        except ServerUnavailableError:
            return ""  # a forwarded port that stands still for a moment
        pods = [each for each in await self._pods() if each in at_work]
        if not pods:
            return ""
        where, pod = self.dice.choice(pods)
        if not await asyncio.to_thread(self._node.kill_worker, pod):
            return ""  # it has ended meanwhile
        await self._kubectl(
            "delete", f"pod/{pod}", "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"
        )
        self.kills += 1
        return where

    async def _pods(self) -> list[tuple[str, str]]:
        listed = yaml.safe_load(
            await self._kubectl(
                "get", "pods", "-l", _WORKERS, "--field-selector=status.phase=Running", "-o", "json"
            )
        )
        return sorted(
            (f"{labels['headgate.dev/pipeline']}/{labels['headgate.dev/branch']}", item["metadata"]["name"])
            for item in listed["items"]
            if "deletionTimestamp" not in item["metadata"]
            for labels in [item["metadata"]["labels"]]
        )

    async def _kubectl(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *arguments)
        return done.stdout


@contextlib.asynccontextmanager
async def on_a_cluster(
    example: str, cluster: Cluster, dice: random.Random, *, is_chaotic: bool = False
) -> AsyncIterator[ClusterStage]:
    """An example in a new namespace of a cluster where headgate is installed; gone when the block ends."""
    with contextlib.ExitStack() as opened:
        name = f"{example}-{uuid.uuid4().hex[:4]}"
        namespace = await asyncio.to_thread(opened.enter_context, cluster.namespace(name))
        forwarded = cluster.forward(OPERATOR_NAMESPACE, "deployment/valkey", 6379)
        address = await asyncio.to_thread(opened.enter_context, forwarded)
        # The forwarding stands still for seconds when the machine has much to do, which no server's network does.
        url = f"redis://{address}?socket_timeout={_SILENT_SECONDS}"
        yield ClusterStage(example, cluster, namespace, url, dice, is_chaotic=is_chaotic)
