"""One operator leads, by a Lease; the others wait for it to be given up or to run out.

The protocol is that of Kubernetes' own components (client-go, tools/leaderelection): a Lease counts as held until
nobody has renewed it for its duration by this process's own clock, since clocks of two machines are not comparable.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headgate_operator.cluster import Cluster, ClusterError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from headgate_operator.manifests.names import Manifest

log = structlog.get_logger()

_API = ("coordination.k8s.io/v1", "Lease")


class LeadershipLostError(Exception):
    """Another operator leads, or may by now: this one must not write any more."""


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds: a lease lasts, its holder keeps trying to renew it, and between two tries of anybody."""

    duration: float = 15
    renew_deadline: float = 10
    retry: float = 2


class Leader:
    """This process's claim to lead. `identity` is unique among the candidates, such as the pod's name."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, identity: str, times: LeaseTimes | None = None
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._times = times or LeaseTimes()
        self._lease: Manifest | None = None
        self._seen: tuple[str, float] = ("", 0.0)
        self.identity = identity
        self.leads = False
        self.last_round = time.monotonic()
        """When the API server last answered about the Lease, by the monotonic clock; health is judged by it."""

    async def acquire(self) -> None:
        """Returns as soon as this process leads."""
        log.info("waiting to lead", lease=f"{self._namespace}/{self._name}", identity=self.identity)
        while not await self._try():  # noqa: ASYNC110  # the API server is asked anew; nothing in here could signal
            await asyncio.sleep(self._times.retry)
        self.leads = True
        log.info("leading", lease=f"{self._namespace}/{self._name}", identity=self.identity)

    async def keep(self) -> None:
        """Renews for ever; raises LeadershipLostError when the Lease is another's or could not be renewed in time."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._times.retry)
            # The Lease counts from when it was written, not from when we heard of it.
            started = time.monotonic()
            if await self._try():
                renewed = started
            elif not self._held_by_self() or time.monotonic() - renewed > self._times.renew_deadline:
                self.leads = False
                raise LeadershipLostError(f"lease {self._namespace}/{self._name} could not be renewed")

    async def release(self) -> None:
        """Gives the Lease up, so that another leads at once; does nothing when this process does not lead."""
        if not self.leads or self._lease is None:
            return
        self.leads = False
        spec = self._lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._cluster.replace(self._lease | {"spec": spec})
        except ClusterError as error:
            log.warning("lease not released; it runs out by itself", error=str(error))
        else:
            log.info("lease released", identity=self.identity)

    async def _try(self) -> bool:
        """One round: reads the Lease and takes or renews it if it may; says whether this process holds it now."""
        try:
            async with asyncio.timeout(self._times.renew_deadline / 2):
                held = await self._round()
        except ConflictError:
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("lease not reachable", error=str(error) or "timed out")
            return False
        self.last_round = time.monotonic()
        return held

    async def _round(self) -> bool:
        try:
            lease = await self._cluster.get(*_API, self._namespace, self._name)
        except NotFoundError:
            self._lease = await self._cluster.create(self._desired(None))
            return True
        self._lease = lease
        if not self._held_by_self() and not self._ran_out(lease):
            return False
        self._lease = await self._cluster.replace(self._desired(lease))
        return True

    def _held_by_self(self) -> bool:
        return self._lease is not None and self._lease["spec"].get("holderIdentity") == self.identity

    def _ran_out(self, lease: Manifest) -> bool:
        spec = lease["spec"]
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        if not spec.get("holderIdentity"):
            return True
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds") or 0)

    def _desired(self, current: Manifest | None) -> Manifest:
        spec = dict(current["spec"]) if current else {}
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if current else 0)
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._times.duration)),
            "renewTime": _now(),
        }
        base = current or {
            "apiVersion": _API[0],
            "kind": _API[1],
            "metadata": {"namespace": self._namespace, "name": self._name},
        }
        return base | {"spec": spec}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
