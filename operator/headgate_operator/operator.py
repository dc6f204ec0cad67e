"""The operator: leadership, kopf and the pilot, from the first answer of the API server to a graceful stop.

Two or more may run; one leads and does everything, the others wait and are ready to.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import kopf
import structlog
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import CollectorRegistry

from headgate.beside import Beside
from headgate.streams import Server
from headgate_operator import handlers
from headgate_operator.api import API_VERSION, PLURAL
from headgate_operator.cluster import ClusterError
from headgate_operator.engines.service import ScalerService
from headgate_operator.keeper import Keeper
from headgate_operator.leader import Leader, LeadershipLostError, LeaseTimes
from headgate_operator.manifests import PIPELINE_LABEL
from headgate_operator.manifests.pod_guard import PodRules
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.pilot import REST_SECONDS, Pilot
from headgate_operator.recorder import Recorder
from headgate_operator.secret_rounds import SecretRounds
from headgate_operator.servers import Servers
from headgate_operator.serving import metrics, probe, serving
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from headgate_operator.users import UserKeeper
from headgate_operator.vitals import Vitals
from headgate_operator.watch import Watch, Watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headgate_operator.cluster import Cluster
    from headgate_operator.readings import PipelineReading
    from headgate_operator.settings import OperatorSettings

LEASE = "headgate-operator"
STALE_SECONDS = 60.0
"""A loop that has not turned for this long is stuck, and the process should be restarted."""
STUCK_SECONDS = 15.0
"""The Lease of a process whose loop has not turned for this long is not renewed."""
TURN_SECONDS = 0.5
STOP_SECONDS = 10.0

log = structlog.get_logger()


class Operator:
    """One process's operator; `run` is all it does. `on_watching` is called once kopf has started."""

    def __init__(
        self, settings: OperatorSettings, cluster: Cluster, *, on_watching: Callable[[], None]
    ) -> None:
        self.settings = settings
        self._on_watching = on_watching
        self._cluster = cluster
        self._servers = Servers(self._connect)
        self._users = (
            UserKeeper(settings.redis_url)
            if settings.redis_url is not None and settings.redis_users
            else None
        )
        self._substrate = KubernetesSubstrate(
            cluster,
            settings.redis_url,
            settings.worker_image,
            settings.scaler_address,
            rules=PodRules(settings.allow_privileged, (settings.own_namespace, settings.own_account)),
            users=self._users,
        )
        self._pulse = time.monotonic()
        self._vitals = Vitals()
        self._pilot = Pilot(
            self._servers.of,
            self._substrate,
            clock=self._beat,
            rest_seconds=REST_SECONDS,
            total=settings.most_workers,
            permit=self._permit,
            ticked=self._vitals.ticked,
            decided=self._vitals.decided,
        )
        # In a thread of its own: a loop that is busy with a thousand pipelines must not lose the lead by that.
        self._lease_thread, self._lease_cluster = Beside("lease"), cluster.beside()
        self._turned = time.monotonic()
        self._scaler = ScalerService(self._pilot, settings.scaler_address, settings.scaler_port)
        self._leader = Leader(
            self._lease_cluster,
            settings.own_namespace,
            LEASE,
            settings.identity,
            LeaseTimes.lasting(settings.lease_seconds),
            is_alive=lambda: time.monotonic() - self._turned < STUCK_SECONDS,
            is_busy=lambda: self._keeper.is_busy,
        )
        cluster.permit = self._leader.permit
        if self._users is not None:
            self._users.permit = self._leader.permit
        self._keeper = Keeper(
            cluster=cluster,
            substrate=self._substrate,
            servers=self._servers,
            pilot=self._pilot,
            recorder=Recorder(cluster, settings.identity),
            vitals=self._vitals,
        )
        self._sightings = Watch(
            cluster,
            Watched("apps/v1", "Deployment", PIPELINE_LABEL),
            settings.namespaces,
            self._keeper.saw_deployment,
        )
        self._secrets = SecretRounds(
            cluster,
            pipelines=lambda: self._keeper.pipelines,
            url_of=self._servers.url,
            changed=self._keeper.saw_secret,
            seconds=settings.secret_seconds,
        )
        self._vitals.watch(queue=lambda: self._keeper.waiting, leads=lambda: self._leader.leads)
        self._watching = asyncio.Event()
        self._answered = False
        self._led_since = time.monotonic()
        self.ports: tuple[int, int] = (0, 0)
        """Of metrics and health, once it runs."""

    async def run(self, stop: asyncio.Event) -> None:
        """Waits to lead, leads until `stop` is set, and gives the lead up. Raises LeadershipLostError."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._servers.aclose)
            if self._users is not None:
                stack.push_async_callback(self._users.aclose)
            stack.callback(self._lease_thread.close)
            stack.push_async_callback(lambda: self._lease_thread.run(self._lease_cluster.aclose()))
            self.ports = (
                await stack.enter_async_context(
                    serving(self.settings.metrics_port, {"/metrics": metrics(self._registry())})
                ),
                await stack.enter_async_context(
                    serving(
                        self.settings.health_port,
                        {"/healthz": probe(self.unhealthy), "/readyz": probe(self.unready)},
                    )
                ),
            )
            log.info("serving", metrics_port=self.ports[0], health_port=self.ports[1])
            if await _unless(stop, self._wait_for_api()):
                return
            stack.push_async_callback(_cancel, asyncio.create_task(self._turn(), name="turning"))
            if await _unless(stop, self._lease_thread.run(self._leader.acquire())):
                await self._lease_thread.run(self._leader.release())
                return
            stack.push_async_callback(self._scaler.stop)
            await self._scaler.start()
            await self._lead(stop)

    def unhealthy(self) -> list[str]:
        """What only a restart can mend; empty when all loops turn."""
        complaints = []
        if self._answered and (silent := time.monotonic() - self._leader.last_round) > STALE_SECONDS:
            complaints.append(f"no answer about the Lease for {silent:.0f} s")
        if self._leader.leads and (silent := time.monotonic() - self._pulse) > STALE_SECONDS:
            complaints.append(f"the pilot has not ticked for {silent:.0f} s")
        led = time.monotonic() - self._led_since
        if self._leader.leads and not self._watching.is_set() and led > STALE_SECONDS:
            complaints.append(f"the watches have not started for {led:.0f} s")
        hung = self._keeper.hung(STALE_SECONDS)
        complaints += [f"the pass over {each} has had no answer for {STALE_SECONDS:.0f} s" for each in hung]
        return complaints

    def unready(self) -> list[str]:
        """What is missing before it leads, or could; empty when ready."""
        if not self._answered:
            return ["the API server has not answered, or does not serve FanoutPipelines: install the CRD"]
        if self._leader.leads and not self._watching.is_set():
            return ["the watches have not started"]
        return []

    def _beat(self) -> float:
        """The pilot's clock. It looks at it on every turn, however a server hangs: that is its pulse."""
        self._pulse = time.monotonic()
        return self._pulse

    def _permit(self) -> None:
        self._leader.permit()

    def _connect(self, url: str) -> Server:
        """A pipeline's server, to which nothing is sent by whom another may have replaced."""
        return Server.connect(url, self._permit)

    async def _turn(self) -> None:
        """Shows that the loop turns, to the thread that renews the Lease."""
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)

    def _readings(self) -> Iterable[PipelineReading]:
        return self._pilot.readings.values()

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        registry.register(ReadingsCollector(self._readings))
        registry.register(self._vitals)
        return registry

    async def _wait_for_api(self) -> None:
        """Returns when the API server serves pipelines; until then, says what is missing."""
        while not self._answered:
            try:
                self._answered = await self._cluster.serves(API_VERSION, PLURAL)
                if not self._answered:
                    log.warning("the API server does not serve FanoutPipelines: install the CRD (crds/)")
            except ClusterError as error:
                log.warning("API server not reachable", error=str(error))
            if not self._answered:
                await asyncio.sleep(2)

    async def _lead(self, stop: asyncio.Event) -> None:
        # kopf cancels every task made after its own start when it ends: ours are made before it.
        self._led_since = self._beat()
        renewal = asyncio.create_task(self._lease_thread.run(self._leader.keep()), name="lease")
        flight = asyncio.create_task(self._pilot.run(), name="pilot")
        guards = [asyncio.create_task(self._secrets.run(), name="secrets")]
        if self._users is not None:
            guards.append(asyncio.create_task(self._users.guard(), name="users"))
        sightings = asyncio.create_task(self._sightings.run(), name="deployments")
        ended = asyncio.create_task(stop.wait(), name="stop")
        halt = asyncio.Event()
        watching = asyncio.create_task(
            kopf.operator(
                registry=handlers.registry(self._keeper, self._cluster),
                settings=handlers.settings(),
                standalone=True,
                # kopf would ask for the user's name, and the image's user has none.
                identity=self.settings.identity,  # type: ignore[arg-type]  # a str whose type kopf does not export
                clusterwide=not self.settings.namespaces,
                namespaces=self.settings.namespaces,
                stop_flag=halt,
                ready_flag=self._watching,
            ),
            name="kopf",
        )
        tasks = (renewal, flight, sightings, watching)
        started = asyncio.create_task(self._watching.wait(), name="started")
        await asyncio.wait((*tasks, ended, started), return_when=asyncio.FIRST_COMPLETED)
        self._on_watching()
        done, _ = await asyncio.wait((*tasks, ended), return_when=asyncio.FIRST_COMPLETED)
        failure = next((task.exception() for task in done if not task.cancelled() and task.exception()), None)
        if isinstance(failure, LeadershipLostError):
            raise failure  # nothing more may be written: no graceful end
        log.info("stopping", reason=repr(failure) if failure else "asked to")
        await self._scaler.stop()  # before kopf ends: it would cancel KEDA's calls
        await _cancel(flight, sightings, *guards, ended, started)
        halt.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(watching, return_exceptions=True)
        await _cancel(renewal)
        await self._lease_thread.run(self._leader.release())
        if failure is not None:
            raise failure


async def _unless(stop: asyncio.Event, work: Awaitable[None]) -> bool:
    """Does the work; True when `stop` was set before it was done."""
    doing, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((doing, stopped), return_when=asyncio.FIRST_COMPLETED)
    finished = doing.done()
    await _cancel(doing, stopped)
    if finished:
        doing.result()
    return not finished


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
