"""One operator leads, by a Lease; the others wait for it to be given up or to run out.

The protocol is that of Kubernetes' own components (client-go, tools/leaderelection): a Lease counts as held until
nobody has renewed it for its duration by this process's own clock, since clocks of two machines are not comparable.

The times are shorter than theirs, for a takeover within five seconds of a leader's death. That takes a renewal that
waits for nothing else (see headgate.beside) and a fence: whoever was held up, by a debugger or a machine that
swaps, must not write once its lease ran out, and asks `permit` before each write, and before each request to Redis.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headgate_operator.cluster import Cluster, ClusterError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate_operator.manifests.names import Manifest

log = structlog.get_logger()

_RENEWALS = 3  # a holder renews once in this many tries of the others: they only read, and should see it soon
_PATIENCE = 0.6  # of the time there is for a renewal is given to one try, but not less than a short lease has
_ROOM = 6  # a lease lasts at least so many times what the slowest of late renewals took
_FADING = 0.95  # of how slow the slowest was is left after each renewal
_SHORTEST_SECONDS = 0.05  # between two tries, however soon the Lease runs out

_API = ("coordination.k8s.io/v1", "Lease")


class LeadershipLostError(Exception):
    """Another operator leads, or may by now: this one must not write any more."""


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds: a lease lasts, its holder keeps trying to renew it, and between two tries of anybody.

    Where the API server is so slow that a lease of `duration` might be lost by that alone, it lasts up to `longest`.
    """

    duration: float = 4
    renew_deadline: float = 3.2
    retry: float = 0.25
    longest: float = 15

    @classmethod
    def lasting(cls, duration: float) -> LeaseTimes:
        """The times in the proportions of the usual ones."""
        usual = cls()
        share = duration / usual.duration
        longest = max(duration, usual.longest)
        return cls(duration, usual.renew_deadline * share, usual.retry * share, longest)


class Leader:
    """This process's claim to lead. `identity` is unique among the candidates, such as the pod's name.

    While `is_alive` says no the lease is not renewed: a leader that does nothing should not hold it. While `is_busy`
    says yes it lasts the longest: a leader with that much to do makes the API server slow itself.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        *,
        is_alive: Callable[[], bool] = lambda: True,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._times = times or LeaseTimes()
        self._lease: Manifest | None = None
        self._is_fresh = True
        self._seen: tuple[str, float] = ("", 0.0)
        self._is_alive = is_alive
        self._is_busy = is_busy
        self._held_until = float("-inf")
        self._lasts = self._times.duration
        self._slowest = 0.0
        self.identity = identity
        self.leads = False
        self.last_round = time.monotonic()
        """When the API server last answered about the Lease, by the monotonic clock; health is judged by it."""

    async def acquire(self) -> None:
        """Returns as soon as this process leads."""
        log.info("waiting to lead", lease=f"{self._namespace}/{self._name}", identity=self.identity)
        while not await self._try():  # noqa: ASYNC110  # the API server is asked anew; nothing in here could signal
            await asyncio.sleep(max(_SHORTEST_SECONDS, min(self._jittered(), self._left())))
        self.leads = True
        log.info("leading", lease=f"{self._namespace}/{self._name}", identity=self.identity)

    async def keep(self) -> None:
        """Renews for ever; raises LeadershipLostError when the Lease is another's or could not be renewed in time."""
        while True:
            await asyncio.sleep(_RENEWALS * self._jittered())
            if self.leads and self._is_alive() and await self._try():
                continue
            if not self.leads or not self._held_by_self() or time.monotonic() > self._deadline():
                self.leads = False
                raise LeadershipLostError(f"lease {self._namespace}/{self._name} could not be renewed")

    def permit(self) -> None:
        """Returns when this process may write; raises LeadershipLostError when another may lead by now."""
        if not self.leads or time.monotonic() >= self._held_until:
            self.leads = False  # for good: what was refused once must not go on as if nothing had been
            raise LeadershipLostError(f"lease {self._namespace}/{self._name} ran out unrenewed")

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
        """One round: takes or renews the Lease if it may; says whether this process holds it now."""
        # The Lease counts from when it was written, not from when we heard of it.
        started = time.monotonic()
        try:
            # One that is given up may be made all the same, and costs two more calls; but one may hang where the next
            # does not.
            patience = self._times.renew_deadline
            if self.leads:
                left = self._deadline() - started
                patience = max(_PATIENCE * left, min(patience, left))
            async with asyncio.timeout(max(patience, _SHORTEST_SECONDS)):
                held = await self._round()
        except (ConflictError, NotFoundError):
            self._is_fresh = False  # not as it was left: a renewal whose answer was lost, or another's
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("lease not reachable", error=str(error) or "timed out")
            return False
        finally:
            self._slowest = max(time.monotonic() - started, self._slowest * _FADING)
        self.last_round = time.monotonic()
        if held:
            self._held_until = started + self._lasts
        return held

    def _deadline(self) -> float:
        """Until when a renewal is of use, by the monotonic clock."""
        spare = 1 - self._times.renew_deadline / self._times.duration
        return self._held_until - spare * self._lasts

    async def _round(self) -> bool:
        if self._lease is not None and self._held_by_self() and self._is_fresh:
            self._lease = await self._cluster.replace(self._desired(self._lease))
            return True
        try:
            lease = await self._cluster.get(*_API, self._namespace, self._name)
        except NotFoundError:
            self._lease = await self._cluster.create(self._desired(None))
            return True
        self._lease, self._is_fresh = lease, True
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
        return self._left() <= 0

    def _left(self) -> float:
        """Seconds until another's Lease as it was last seen runs out; many when none was seen."""
        if self._lease is None:
            return self._times.duration
        lasts = float(self._lease["spec"].get("leaseDurationSeconds") or 0)
        return max(0.0, self._seen[1] + lasts - time.monotonic())

    def _jittered(self) -> float:
        return self._times.retry * random.uniform(0.8, 1.0)

    def _desired(self, current: Manifest | None) -> Manifest:
        wanted = self._times.longest if self._is_busy() else _ROOM * self._slowest
        self._lasts = math.ceil(min(max(self._times.duration, wanted), self._times.longest))
        spec = dict(current["spec"]) if current else {}
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if current else 0)
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._lasts),
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
