"""The pilot: every second it measures all pipelines, decides, and applies replicas and gates.

One round trip a server measures everything on it. Between ticks a doorbell (a blocking read that every publish ends)
wakes the pilot for branches at zero. Whatever cannot be measured is held as it is, and a pipeline or server that
fails never stops another.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from headgate.streams import Doorbell, Gate, ensure_groups, measure, set_gate, sweep
from headgate.streams.url import redact
from headgate_operator import autoscale, backpressure, inputs
from headgate_operator.readings import BranchReading, PipelineReading, Rate
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.streams import BranchMeasurement, PipelineMeasurement, Server
    from headgate_operator.api import BranchSpec
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Substrate

TICK_SECONDS = 1.0
GATE_TTL_SECONDS = 5.0  # a pilot that dies opens its gates after this
SWEEP_SECONDS = 5.0
ROUND_TIMEOUT_SECONDS = 15.0  # one server's round, the substrate's calls included
MIN_PAUSE_SECONDS = 0.05  # between ticks, however often the doorbell rings

__all__ = ["BranchReading", "Pilot", "PipelineReading"]

log = structlog.get_logger()


@dataclass
class _BranchMemory:
    scaler: autoscale.ScalerState = field(default_factory=autoscale.ScalerState)
    level: backpressure.LevelState = field(default_factory=backpressure.LevelState)
    workers: Workers = field(default_factory=Workers)
    rate: Rate = field(default_factory=Rate)


@dataclass
class _Flight:
    """A pipeline under the pilot's hand, and what it remembers of it from tick to tick."""

    pipeline: Pipeline
    branches: defaultdict[str, _BranchMemory] = field(default_factory=lambda: defaultdict(_BranchMemory))
    rate: Rate = field(default_factory=Rate)
    reading: PipelineReading | None = None
    swept: float = float("-inf")
    errors: list[str] = field(default_factory=list)


class Pilot:
    """Flies any number of pipelines: `server_for` gives a pipeline's server, `clock` seconds that only grow."""

    def __init__(
        self,
        server_for: Callable[[Pipeline], Server],
        substrate: Substrate,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server_for = server_for
        self._substrate = substrate
        self._clock = clock
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._rounds: dict[Server, asyncio.Task[None]] = {}
        self._bells: dict[Server, asyncio.Task[bool]] = {}

    def add(self, pipeline: Pipeline) -> None:
        """Flies this pipeline from the next tick on; replaces one of the same name, keeping what was learnt."""
        key = (pipeline.namespace, pipeline.name)
        if key in self._flights:
            flight = self._flights[key]
            flight.pipeline = pipeline
            for gone in flight.branches.keys() - set(pipeline.branch_names):
                del flight.branches[gone]
        else:
            self._flights[key] = _Flight(pipeline)

    def remove(self, namespace: str, name: str) -> None:
        """Leaves this pipeline alone from now on; unknown ones are ignored."""
        self._flights.pop((namespace, name), None)

    @property
    def readings(self) -> dict[tuple[str, str], PipelineReading]:
        """The last reading of each pipeline, by (namespace, name); absent before its first tick."""
        return {key: flight.reading for key, flight in self._flights.items() if flight.reading is not None}

    async def run(self) -> None:
        """Ticks every second, and at once when the doorbell rings, until cancelled."""
        try:
            while True:
                started = self._clock()
                await self.tick()
                await asyncio.sleep(MIN_PAUSE_SECONDS)
                await self._pause(started + TICK_SECONDS)
        finally:
            tasks = (*self._rounds.values(), *self._bells.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def tick(self) -> dict[tuple[str, str], PipelineReading]:
        """Measures, decides and applies once, all servers side by side; returns the readings.

        A server that does not answer within a tick is left to finish in the background and skipped meanwhile.
        """
        by_server: dict[Server, list[_Flight]] = {}
        for flight in self._flights.values():
            # One that has no server any more is on its way out.
            with _noted(flight, "no server"):
                by_server.setdefault(self._server_for(flight.pipeline), []).append(flight)
        for server, flights in by_server.items():
            if server not in self._rounds:
                self._rounds[server] = asyncio.create_task(self._round(server, flights))
        if self._rounds:
            done, _ = await asyncio.wait(self._rounds.values(), timeout=TICK_SECONDS)
            self._rounds = {server: task for server, task in self._rounds.items() if task not in done}
            for task in done:
                task.result()
        return self.readings

    async def _round(self, server: Server, flights: list[_Flight]) -> None:
        try:
            async with asyncio.timeout(ROUND_TIMEOUT_SECONDS):
                measurements = await self._measure(server, flights)
                await asyncio.gather(
                    *(
                        self._steer_alone(server, flight, measurement)
                        for flight, measurement in zip(flights, measurements, strict=True)
                    )
                )
        except TimeoutError:
            log.warning("round timed out", server=redact(server.url), seconds=ROUND_TIMEOUT_SECONDS)

    async def _measure(self, server: Server, flights: list[_Flight]) -> list[PipelineMeasurement | None]:
        wanted = [(flight.pipeline.keys, flight.pipeline.branch_names) for flight in flights]
        for flight in flights:
            flight.errors = []
        measured: list[PipelineMeasurement | None] = [None] * len(flights)
        try:
            measured = await measure(server, wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, unknown holds what is there
            for flight in flights:
                flight.errors.append(f"cannot be measured: {error}")
        return measured

    async def _steer_alone(
        self, server: Server, flight: _Flight, measurement: PipelineMeasurement | None
    ) -> None:
        """Keeps a fault of ours with one pipeline from stopping the others; its next tick tries again."""
        try:
            await self._steer(server, flight, measurement)
        except Exception:
            log.exception("not steered", pipeline=str(flight.pipeline))

    async def _steer(self, server: Server, flight: _Flight, measurement: PipelineMeasurement | None) -> None:
        """Decides and applies for one pipeline. Errors go into its reading; what they concern is held."""
        now, pipeline = self._clock(), flight.pipeline
        observed: dict[str, Workers] | None = None
        with _noted(flight, "workers cannot be observed"):
            observed = await self._substrate.observe(pipeline)
        if measurement is not None:
            flight.rate.add(now, measurement.published)
        readings: dict[str, BranchReading] = {}
        for branch in pipeline.spec.branches:
            memory = flight.branches[branch.name]
            if observed is not None:
                memory.workers = observed.get(branch.name, Workers())
            found = measurement.branches.get(branch.name) if measurement is not None else None
            await self._gate(server, flight, branch.name, found, now)
            replicas = memory.workers.desired
            if observed is not None:
                published = 0 if measurement is None else measurement.published
                replicas = await self._scale(flight, branch, found, published, now)
            if found is not None:
                memory.rate.add(now, found.settled)
            readings[branch.name] = BranchReading(
                name=branch.name,
                measurement=found,
                workers=memory.workers,
                replicas=replicas,
                delayed=backpressure.delayed_lanes(memory.level, inputs.levels(pipeline)),
                settled_per_second=memory.rate.per_second,
            )
        await self._sweep(server, flight, measurement, now)
        highest = max(flight.branches[name].level.index for name in pipeline.branch_names)
        flight.reading = PipelineReading(
            pipeline=pipeline,
            measurement=measurement,
            branches=readings,
            level=inputs.levels(pipeline)[highest - 1].name if highest else "",
            published_per_second=flight.rate.per_second,
            error="; ".join(flight.errors),
        )

    async def _gate(
        self, server: Server, flight: _Flight, branch: str, found: BranchMeasurement | None, now: float
    ) -> None:
        """Moves the branch's level and renews its gate; an open one needs no renewal."""
        pipeline, memory, levels = flight.pipeline, flight.branches[branch], inputs.levels(flight.pipeline)
        before = memory.level
        if found is not None:
            memory.level = backpressure.decide(before, levels, inputs.loads(found), now)
        else:
            memory.level = before if before.index <= len(levels) else backpressure.LevelState()
        delayed = backpressure.delayed_lanes(memory.level, levels)
        if memory.level.index != before.index:
            name = levels[memory.level.index - 1].name if memory.level.index else ""
            log.info(
                "level changed",
                pipeline=str(pipeline),
                branch=branch,
                now=name or "none",
                delayed=sorted(delayed),
            )
        if not delayed and not before.index:
            return
        wait = pipeline.spec.backpressure.max_delay_seconds if pipeline.spec.backpressure else 0
        gate = Gate(delayed, wait) if delayed else Gate.OPEN
        with _noted(flight, f"branch {branch}: the gate cannot be set"):
            await set_gate(server, pipeline.keys, branch, gate, GATE_TTL_SECONDS)

    async def _scale(
        self, flight: _Flight, branch: BranchSpec, found: BranchMeasurement | None, published: int, now: float
    ) -> int:
        """Decides the branch's replicas and asks the substrate for them in one call when they differ."""
        pipeline, memory = flight.pipeline, flight.branches[branch.name]
        workers = memory.workers
        delayed = backpressure.delayed_lanes(memory.level, inputs.levels(pipeline))
        moment = autoscale.ScalerInputs(
            now=now,
            published=published,
            settled=found.settled if found is not None else 0,
            busy_seconds=found.busy_us / 1e6 if found is not None else 0.0,
            backlog=found.backlog if found is not None else None,
            current=workers.desired,
            ready=workers.ready,
            deferred=inputs.deferred(found, delayed) if found is not None else 0,
        )
        memory.scaler, replicas = autoscale.decide(memory.scaler, moment, inputs.limits(branch))
        if replicas == workers.desired:
            return replicas
        with _noted(flight, f"branch {branch.name}: cannot scale to {replicas}"):
            holding = found.holding if found is not None else {}
            await self._substrate.scale(pipeline, branch.name, replicas, holding)
            log.info(
                "scaled",
                pipeline=str(pipeline),
                branch=branch.name,
                before=workers.desired,
                after=replicas,
                backlog=moment.backlog,
            )
        return replicas

    async def _sweep(
        self, server: Server, flight: _Flight, measurement: PipelineMeasurement | None, now: float
    ) -> None:
        if now - flight.swept < SWEEP_SECONDS:
            return
        flight.swept = now
        pipeline = flight.pipeline
        with _noted(flight, "cannot sweep"):
            if measurement is None or any(b.backlog is None for b in measurement.branches.values()):
                # Most likely the server was emptied: a branch without its group has no backlog to measure.
                await ensure_groups(server, pipeline.keys, pipeline.branch_names, pipeline.source)
            swept = await sweep(server, pipeline.keys, pipeline.join)
            if swept.lost or swept.dropped:
                log.warning(
                    "events lost to a cap",
                    pipeline=str(pipeline),
                    unsettled_events=swept.lost,
                    dead_letters=swept.dropped,
                )

    async def _pause(self, until: float) -> None:
        """Waits for the next tick, or for a publish to a pipeline that has a branch at zero."""
        for server, last_ids in self._at_zero().items():
            if server not in self._bells:
                self._bells[server] = asyncio.create_task(self._ring(server, last_ids, until - self._clock()))
        while (left := until - self._clock()) > 0:
            if not self._bells:
                await asyncio.sleep(left)
                return
            done, _ = await asyncio.wait(
                self._bells.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            self._bells = {server: task for server, task in self._bells.items() if task not in done}
            if any(task.result() for task in done):
                return

    def _at_zero(self) -> dict[Server, dict[str, str]]:
        waiting: dict[Server, dict[str, str]] = {}
        for flight in self._flights.values():
            reading = flight.reading
            if reading is None or reading.measurement is None:
                continue
            if any(branch.replicas == 0 for branch in reading.branches.values()):
                with _noted(flight, "no server"):
                    server = self._server_for(flight.pipeline)
                    waiting.setdefault(server, {}).update(reading.measurement.last_ids)
        return waiting

    async def _ring(self, server: Server, last_ids: dict[str, str], seconds: float) -> bool:
        try:
            return await Doorbell(server).wait(last_ids, max(seconds, 0.01))
        except Exception:  # noqa: BLE001 - the next tick says what is wrong with the server
            await asyncio.sleep(max(seconds, 0.01))
            return False


@contextmanager
def _noted(flight: _Flight, what: str) -> Iterator[None]:
    """Puts an error into the pipeline's reading and goes on: the next tick tries again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - servers and substrates have errors of their own
        flight.errors.append(f"{what}: {error}")
