"""The workers' pods: which of them scale-in takes first, and when the last is gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from headgate_operator.cluster import ClusterError, NotFoundError
from headgate_operator.manifests import Manifest, selector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.cluster import Cluster
    from headgate_operator.pipeline import Pipeline

SCALE_MANAGER = "headgate-pilot"
"""Field manager of all that follows the load."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
STOPPING_SECONDS = 60.0
"""Longest wait for the pods of a removed pipeline; more than their grace period."""
_PRICED_AT_ONCE = 20  # pods: hundreds one after another would outlast the pilot's round

log = structlog.get_logger()


async def price(cluster: Cluster, pipeline: Pipeline, branch: str, holding: Mapping[str, int]) -> None:
    """Makes the pods that hold least the cheapest to delete; one that cannot be priced keeps its old price.

    `holding` gives the events that each worker holds. Raises ClusterError when the pods cannot be listed.
    """
    few = asyncio.Semaphore(_PRICED_AT_ONCE)

    async def mark(name: str, cost: str) -> None:
        patch = {"metadata": {"annotations": {DELETION_COST: cost}}}
        try:
            async with few:
                await cluster.patch("v1", "Pod", pipeline.namespace, name, patch, field_manager=SCALE_MANAGER)
        except NotFoundError:
            return
        except ClusterError as error:
            log.warning("deletion cost not set", pod=name, error=str(error))

    changes = []
    for pod in await _pods(cluster, pipeline, branch):
        name = pod["metadata"]["name"]
        cost = str(holding.get(name, 0))
        if pod["metadata"].get("annotations", {}).get(DELETION_COST, "0") != cost:
            changes.append(mark(name, cost))
    await asyncio.gather(*changes)


async def until_gone(cluster: Cluster, pipeline: Pipeline) -> None:
    """Returns when the pipeline has no pods, or after STOPPING_SECONDS. Raises ClusterError."""
    deadline = time.monotonic() + STOPPING_SECONDS
    while await _pods(cluster, pipeline):
        if time.monotonic() > deadline:
            log.warning("workers do not stop", pipeline=str(pipeline), seconds=STOPPING_SECONDS)
            return
        await asyncio.sleep(0.5)


async def _pods(cluster: Cluster, pipeline: Pipeline, branch: str | None = None) -> list[Manifest]:
    return await cluster.list("v1", "Pod", pipeline.namespace, selector(pipeline.name, branch))
