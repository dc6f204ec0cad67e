"""How long after a leader's death another operator flies its pipelines."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.event import NewEvent
from headgate.streams import Publisher, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.operator_process import OperatorProcess
    from headgate.streams import PipelineKeys
    from headgate_operator.cluster import Cluster

GIVE_UP_SECONDS = 300.0
TICKS = "headgate_pilot_tick_seconds_count"


@dataclass(frozen=True)
class Takeover:
    """Seconds from the SIGKILL of the leader until the other leads, has ticked, and has scaled a branch from zero."""

    led: float
    ticked: float
    scaled: float


async def take_over(
    leader: OperatorProcess,
    standby: OperatorProcess,
    cluster: Cluster,
    redis_url: str,
    place: tuple[PipelineKeys, str],
) -> Takeover:
    """Kills the leader while the branch at `place` is at zero, and publishes into its pipeline.

    Raises RuntimeError when something of that does not happen in five minutes.
    """
    keys, branch = place
    namespace, name = keys.namespace, f"{keys.pipeline}-{branch}"
    server = Server.connect(redis_url)

    async def since(what: str, ask: Callable[[], object]) -> float:
        while not ask():
            if time.monotonic() > killed + GIVE_UP_SECONDS:
                raise RuntimeError(f"{what}: not {GIVE_UP_SECONDS:.0f} s after the leader was killed")
            await asyncio.sleep(0.02)
        return time.monotonic() - killed

    try:
        killed = leader.kill()
        await Publisher(server, keys).publish([NewEvent(data=0)])
        led = await since("leading", lambda: standby.said("leading"))
        ticked = await since("ticking", lambda: standby.metrics()[TICKS] > 0)
        while not (await cluster.get("apps/v1", "Deployment", namespace, name))["spec"]["replicas"]:
            if time.monotonic() > killed + GIVE_UP_SECONDS:
                raise RuntimeError(
                    f"{namespace}/{name} has no worker five minutes after the leader was killed"
                )
            await asyncio.sleep(0.02)
        return Takeover(led, ticked, time.monotonic() - killed)
    finally:
        await server.aclose()
