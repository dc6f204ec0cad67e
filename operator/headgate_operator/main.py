"""The operator process: logs, cluster, leadership, kopf and the pilot, from start to graceful stop.

Two or more may run; one leads and does everything, the others wait and are ready to.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kopf
import structlog
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import CollectorRegistry

from headgate_operator import handlers
from headgate_operator.api import API_VERSION, PLURAL
from headgate_operator.beside import Beside
from headgate_operator.cluster import Cluster, ClusterError
from headgate_operator.engines.service import ScalerService
from headgate_operator.keeper import Keeper
from headgate_operator.leader import Leader, LeadershipLostError, LeaseTimes
from headgate_operator.manifests import PIPELINE_LABEL
from headgate_operator.manifests.pod_guard import PodRules
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.pilot import REST_SECONDS, Pilot
from headgate_operator.recorder import Recorder
from headgate_operator.servers import Servers
from headgate_operator.serving import metrics, probe, serving
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from headgate_operator.users import UserKeeper
from headgate_operator.vitals import Vitals
from headgate_operator.watch import Watch, Watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from headgate_operator.readings import PipelineReading

LEASE = "headgate-operator"
STALE_SECONDS = 60.0
"""A loop that has not turned for this long is stuck, and the process should be restarted."""
STUCK_SECONDS = 15.0
"""The Lease of a process whose loop has not turned for this long is not renewed."""
TURN_SECONDS = 0.5
STOP_SECONDS = 10.0
_COLLECT_AFTER = 20_000  # objects made and not freed
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

log = structlog.get_logger()


@dataclass(frozen=True)
class OperatorSettings:
    """What the process is started with. `namespaces` empty means all; port 0 is any free one."""

    namespaces: tuple[str, ...] = ()
    metrics_port: int = 9100
    health_port: int = 8080
    redis_url: str | None = None
    """The operator's own server, for pipelines without spec.redis."""
    worker_image: str | None = None
    """Image of workers that push events: of branches with an http or container handler."""
    scaler_address: str | None = None
    """host:port at which KEDA reaches this operator; without it nothing is served for KEDA."""
    scaler_port: int = 6000
    """Where that is served."""
    redis_users: bool = True
    """Whether each pipeline on the operator's own server gets a user of its own there."""
    allow_privileged: bool = False
    """Whether branches may give their pods rights on the node."""
    own_account: str = ""
    """The operator's own ServiceAccount, which no worker may have; empty: unknown."""
    most_workers: int = 0
    """In any namespace, all its branches together; 0 for as many as they want."""
    own_namespace: str = "default"
    """Where the Lease is."""
    lease_seconds: float = 4.0
    """The Lease of a leader that died is another's after this."""
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}")

    @classmethod
    def from_environment(
        cls,
        *,
        namespaces: Sequence[str] = (),
        metrics_port: int = 9100,
        health_port: int = 8080,
        scaler_port: int = 6000,
    ) -> OperatorSettings:
        """With HEADGATE_REDIS_URL, HEADGATE_WORKER_IMAGE, HEADGATE_SCALER_ADDRESS, and POD_NAMESPACE or the pod's.

        And with HEADGATE_LEASE_SECONDS, HEADGATE_REDIS_USERS, HEADGATE_ALLOW_PRIVILEGED, HEADGATE_SERVICE_ACCOUNT
        and HEADGATE_MAX_WORKERS_PER_NAMESPACE. Raises ValueError.
        """
        own = os.environ.get("POD_NAMESPACE")
        if not own and _NAMESPACE_FILE.exists():
            own = _NAMESPACE_FILE.read_text().strip()
        return cls(
            namespaces=tuple(namespaces),
            metrics_port=metrics_port,
            health_port=health_port,
            redis_url=os.environ.get("HEADGATE_REDIS_URL") or None,
            worker_image=os.environ.get("HEADGATE_WORKER_IMAGE") or None,
            scaler_address=os.environ.get("HEADGATE_SCALER_ADDRESS") or None,
            scaler_port=scaler_port,
            redis_users=_switch("HEADGATE_REDIS_USERS", OperatorSettings.redis_users),
            allow_privileged=_switch("HEADGATE_ALLOW_PRIVILEGED", OperatorSettings.allow_privileged),
            own_account=os.environ.get("HEADGATE_SERVICE_ACCOUNT", ""),
            most_workers=_count("HEADGATE_MAX_WORKERS_PER_NAMESPACE"),
            own_namespace=own or "default",
            lease_seconds=_lease_seconds(os.environ.get("HEADGATE_LEASE_SECONDS")),
        )


class Operator:
    """One process's operator; `run` is all it does. `on_watching` is called once kopf has started."""

    def __init__(
        self, settings: OperatorSettings, cluster: Cluster, *, on_watching: Callable[[], None]
    ) -> None:
        self.settings = settings
        self._on_watching = on_watching
        self._cluster = cluster
        self._servers = Servers()
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
        guards = [asyncio.create_task(self._users.guard(), name="users")] if self._users is not None else []
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


def configure_logging(level: int = logging.INFO) -> None:
    """JSON lines on stderr, kopf's and the client's log included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer(default=repr)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line a watch event otherwise
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


async def run(settings: OperatorSettings) -> int:
    """Runs until SIGTERM or SIGINT; returns the process's exit code."""
    # With a thousand pipelines a collection of everything holds all of them up for half a second: seldom, then, and
    # without what is never garbage.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take_signals() -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)

    take_signals()
    try:
        cluster = await Cluster.connect()
    except ClusterError as error:
        log.error("no cluster", error=str(error))  # noqa: TRY400  # the message says it all
        return 1
    try:
        # Again when kopf has started: it takes the signals for itself, and would stop before the pilot does.
        await Operator(settings, cluster, on_watching=take_signals).run(stop)
    except LeadershipLostError as error:
        log.error("lost the lead: exiting at once, another one leads", error=str(error))  # noqa: TRY400
        os._exit(1)
    except Exception:
        log.exception("failed")
        return 1
    finally:
        await cluster.aclose()
    return 0


def _lease_seconds(given: str | None) -> float:
    """A whole number, as the Lease has it; raises ValueError."""
    if not given:
        return OperatorSettings.lease_seconds
    if not given.isdecimal() or not 2 <= int(given) <= 60:
        raise ValueError(f"HEADGATE_LEASE_SECONDS: {given!r}: give whole seconds from 2 to 60")
    return float(given)


def _count(name: str) -> int:
    """A variable that is a whole number, 0 without it; raises ValueError."""
    given = os.environ.get(name) or "0"
    if not (given.isascii() and given.isdigit()):
        raise ValueError(f"{name}: {given!r}: give a whole number from 0")
    return int(given)


def _switch(name: str, otherwise: bool) -> bool:
    """A variable that is true or false; raises ValueError."""
    given = os.environ.get(name) or str(otherwise).lower()
    if given not in {"true", "false"}:
        raise ValueError(f"{name}: {given!r}: give true or false")
    return given == "true"


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
