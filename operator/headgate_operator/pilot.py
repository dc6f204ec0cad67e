"""The pilot: every second it measures all pipelines, decides, and applies replicas and gates.

One round trip a server measures everything on it. Between ticks a doorbell (a blocking read that every publish ends)
wakes the pilot for branches at zero. Whatever cannot be measured is held as it is, and a pipeline or server that
fails never stops another.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from headgate.streams import measure
from headgate.streams.url import redact
from headgate_operator.bells import Bells
from headgate_operator.flight import Flight
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.streams import PipelineMeasurement, Server
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Substrate

TICK_SECONDS = 1.0
ROUND_TIMEOUT_SECONDS = 15.0  # one server's round, the substrate's calls included
MIN_PAUSE_SECONDS = 0.05  # between ticks, however often the doorbell rings

__all__ = ["BranchReading", "Pilot", "PipelineReading"]

log = structlog.get_logger()


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
        self._steering = Steering(substrate)
        self._clock = clock
        self._flights: dict[tuple[str, str], Flight] = {}
        self._rounds: dict[Server, asyncio.Task[None]] = {}
        self._bells = Bells(clock)

    def add(self, pipeline: Pipeline) -> None:
        """Flies this pipeline from the next tick on; replaces one of the same name, keeping what was learnt."""
        key = (pipeline.namespace, pipeline.name)
        if key in self._flights:
            flight = self._flights[key]
            flight.pipeline, flight.relay = pipeline, None
            for gone in flight.branches.keys() - set(pipeline.branch_names):
                del flight.branches[gone]
        else:
            self._flights[key] = Flight(pipeline)

    def remove(self, namespace: str, name: str) -> None:
        """Leaves this pipeline alone from now on; unknown ones are ignored."""
        self._flights.pop((namespace, name), None)

    @property
    def readings(self) -> dict[tuple[str, str], PipelineReading]:
        """The last reading of each pipeline, by (namespace, name); absent before its first tick."""
        return {key: flight.reading for key, flight in self._flights.items() if flight.reading is not None}

    def take_healed(self, namespace: str, name: str) -> tuple[str, ...]:
        """Branches whose lost groups were made again since this was last asked."""
        flight = self._flights.get((namespace, name))
        if flight is None or not flight.healed:
            return ()
        healed, flight.healed = tuple(flight.healed), {}
        return healed

    async def run(self) -> None:
        """Ticks every second, and at once when the doorbell rings, until cancelled."""
        try:
            while True:
                started = self._clock()
                await self.tick()
                await asyncio.sleep(MIN_PAUSE_SECONDS)
                await self._bells.wait(self._at_zero(), started + TICK_SECONDS)
        finally:
            for task in self._rounds.values():
                task.cancel()
            await asyncio.gather(*self._rounds.values(), return_exceptions=True)
            await self._bells.aclose()

    async def tick(self) -> dict[tuple[str, str], PipelineReading]:
        """Measures, decides and applies once, all servers side by side; returns the readings.

        A server that does not answer within a tick is left to finish in the background and skipped meanwhile.
        """
        by_server: dict[Server, list[Flight]] = {}
        for flight in self._flights.values():
            # One that has no server any more is on its way out.
            with flight.noting("no server"):
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

    async def _round(self, server: Server, flights: list[Flight]) -> None:
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

    async def _measure(self, server: Server, flights: list[Flight]) -> list[PipelineMeasurement | None]:
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
        self, server: Server, flight: Flight, measurement: PipelineMeasurement | None
    ) -> None:
        """Keeps a fault of ours with one pipeline from stopping the others; its next tick tries again."""
        try:
            await self._steering.steer(server, flight, measurement, self._clock())
        except Exception:
            log.exception("not steered", pipeline=str(flight.pipeline))

    def _at_zero(self) -> dict[Server, dict[str, str]]:
        waiting: dict[Server, dict[str, str]] = {}
        for flight in self._flights.values():
            reading = flight.reading
            if reading is None or reading.measurement is None:
                continue
            if any(branch.replicas == 0 for branch in reading.branches.values()):
                with flight.noting("no server"):
                    server = self._server_for(flight.pipeline)
                    waiting.setdefault(server, {}).update(reading.measurement.last_ids)
        return waiting
