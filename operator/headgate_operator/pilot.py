"""The pilot: every second it measures pipelines, decides, and applies replicas and gates.

One round trip a server measures everything on it that has something to do. A pipeline at rest is looked at every few
seconds, and at once when its doorbell rings (a blocking read that every publish ends) or a watch tells of its workers.
Whatever cannot be measured is held as it is, and a pipeline or server that fails never stops another.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import structlog

from headgate.streams import measure
from headgate_operator.bells import Bells
from headgate_operator.flight import Flight
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.rest import is_at_rest, listens
from headgate_operator.rounds import Rounds
from headgate_operator.steering import Steering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from headgate.streams import PipelineMeasurement, Server
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Substrate

TICK_SECONDS = 1.0
REST_SECONDS = 10.0
"""A pipeline at rest is looked at this often, spread so that no tick has more of them than another."""
REST_SWEEP_SECONDS = 60.0
"""And swept this often."""
FOLLOW_SECONDS = 0.25
"""After the doorbell rang, a second look: the first sees a burst's beginning alone, a tick may be a second away."""
MIN_PAUSE_SECONDS = 0.05  # between looks, however often the doorbell rings
_SLACK_SECONDS = 0.1  # a look that comes this much early is as good as on time

__all__ = ["BranchReading", "Pilot", "PipelineReading"]

log = structlog.get_logger()

Key = tuple[str, str]


class Pilot:
    """Flies any number of pipelines: `server_for` gives a pipeline's server, `clock` seconds that only grow.

    `rest_seconds` of a TICK_SECONDS lets none rest; no namespace gets more than `total` workers, unless that is 0.
    `permit` is asked before each look and may raise to end the flight.
    `listeners` hear of every new reading, `ticked` of every tick: its seconds, and how many seconds late it began;
    `decided` of each decision about workers that differs from the one before: its reason.
    """

    def __init__(
        self,
        server_for: Callable[[Pipeline], Server],
        substrate: Substrate,
        *,
        clock: Callable[[], float] = time.monotonic,
        rest_seconds: float = TICK_SECONDS,
        total: int = 0,
        permit: Callable[[], None] = lambda: None,
        ticked: Callable[[float, float], None] = lambda _seconds, _late: None,
        decided: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._server_for = server_for
        self._substrate = substrate
        self._steering = Steering(substrate, total=total, decided=decided)
        self._clock = clock
        self._rest_seconds = rest_seconds
        self._permit = permit
        self._ticked = ticked
        self._flights: dict[Key, Flight] = {}
        self._rounds = Rounds(self._look)
        self._bells = Bells(clock)
        self._ringers: dict[str, Key] = {}
        self.listeners: list[Callable[[Key], None]] = []

    def add(self, pipeline: Pipeline) -> None:
        """Flies this pipeline from now on; replaces one of the same name, keeping what was learnt."""
        key = (pipeline.namespace, pipeline.name)
        if key in self._flights:
            flight = self._flights[key]
            if pipeline.draining is None:
                pipeline = pipeline.leaving(flight.pipeline.draining).waiting(flight.pipeline.growing)
            flight.pipeline, flight.relay, flight.at_rest = pipeline, None, False
            for gone in flight.branches.keys() - set(pipeline.branch_names):
                del flight.branches[gone]
            self.wake(*key)
        else:
            self._flights[key] = Flight(pipeline)
            self._bells.strike()

    async def remove(self, namespace: str, name: str) -> None:
        """Leaves this pipeline alone from now on; unknown ones are ignored.

        Returns when a look under way is over, which takes ROUND_TIMEOUT_SECONDS at most: its keys may be removed then.
        """
        flight = self._flights.pop((namespace, name), None)
        if flight is None:
            return
        flight.removed = True
        if flight.look is not None:
            await flight.look.wait()

    def wake(self, namespace: str, name: str) -> None:
        """Something about this pipeline changed: the next tick looks at it, at rest or not."""
        if flight := self._flights.get((namespace, name)):
            flight.due = float("-inf")

    def flies(self, namespace: str, name: str) -> bool:
        """Whether a pipeline is looked at."""
        return (namespace, name) in self._flights

    def rests(self, namespace: str, name: str) -> bool:
        """Whether nothing was under way when it was looked at last."""
        flight = self._flights.get((namespace, name))
        return flight is not None and flight.at_rest

    def reading(self, namespace: str, name: str) -> PipelineReading | None:
        """The last reading of a pipeline; None before its first tick."""
        flight = self._flights.get((namespace, name))
        return flight.reading if flight is not None else None

    @property
    def readings(self) -> dict[Key, PipelineReading]:
        """The last reading of each pipeline, by (namespace, name); absent before its first tick."""
        return {key: flight.reading for key, flight in self._flights.items() if flight.reading is not None}

    @asynccontextmanager
    async def changing(self, namespace: str, name: str) -> AsyncIterator[None]:
        """While a pass changes groups the pilot heals none: what it flies is not what is wanted any more.

        A healing that is under way is waited for.
        """
        flight = self._flights.get((namespace, name))
        async with flight.groups if flight is not None else nullcontext():
            yield

    def take_healed(self, namespace: str, name: str) -> tuple[str, ...]:
        """Branches whose lost groups were made again since this was last asked."""
        flight = self._flights.get((namespace, name))
        if flight is None or not flight.healed:
            return ()
        healed, flight.healed = tuple(flight.healed), {}
        return healed

    async def run(self) -> None:
        """Ticks every second, and looks at once at whom the doorbell rings for, until cancelled."""
        planned = self._clock()
        try:
            while True:
                started = self._clock()
                await self.tick()
                self._ticked(self._clock() - started, started - planned)
                planned = max(planned + TICK_SECONDS, started + MIN_PAUSE_SECONDS)
                await asyncio.sleep(MIN_PAUSE_SECONDS)
                while (rang := await self._ring(planned)) is not None:
                    keys = {self._ringers[stream] for stream in rang & self._ringers.keys()}
                    for key in keys:
                        self.wake(*key)
                    if keys:
                        asyncio.get_running_loop().call_later(FOLLOW_SECONDS, self._look_again, keys)
                    if self._clock() >= planned:
                        break  # the tick that is due looks at them
                    await self.tick()
                    await asyncio.sleep(MIN_PAUSE_SECONDS)
        finally:
            await self._rounds.aclose()
            await self._bells.aclose()

    def _look_again(self, keys: Collection[Key]) -> None:
        """The wait under way ends, and these are looked at."""
        for key in keys:
            self.wake(*key)
        self._bells.strike()

    async def tick(self) -> dict[Key, PipelineReading]:
        """Measures, decides and applies once for all that are due, servers side by side; returns the readings.

        A server that does not answer within a tick is left to finish in the background and skipped meanwhile.
        """
        self._permit()
        now = self._clock()
        by_server: dict[Server, list[Flight]] = {}
        for flight in self._flights.values():
            if flight.due > now:
                continue
            # One that has no server any more is on its way out.
            with flight.noting("no server"):
                by_server.setdefault(self._server_for(flight.pipeline), []).append(flight)
        await self._rounds.begin(by_server, TICK_SECONDS)
        return self.readings

    async def _look(self, server: Server, flights: Sequence[Flight]) -> None:
        now = self._clock()
        due = now + TICK_SECONDS - _SLACK_SECONDS
        for flight in flights:
            flight.due = due
        measurements = await self._measure(server, flights)
        await asyncio.gather(
            *(
                self._steer_alone(server, flight, measurement)
                for flight, measurement in zip(flights, measurements, strict=True)
            )
        )
        for flight in flights:
            # One that was woken meanwhile has changed since: it is due as it is.
            if flight.at_rest and flight.due == due:
                flight.due = now + self._rest_seconds * random.uniform(0.9, 1.1)

    async def _measure(self, server: Server, flights: Sequence[Flight]) -> list[PipelineMeasurement | None]:
        wanted = [(flight.pipeline.keys, flight.pipeline.measured_names) for flight in flights]
        known = [flight.reading.measurement if flight.reading else None for flight in flights]
        for flight in flights:
            flight.errors = []

        def failed(number: int, error: Exception) -> None:
            flights[number].errors.append(f"cannot be measured: {error}")

        measured: list[PipelineMeasurement | None] = [None] * len(flights)
        try:
            measured = await measure(server, wanted, known, failed=failed)
        except Exception as error:  # noqa: BLE001 - whatever it is, unknown holds what is there
            for flight in flights:
                flight.errors.append(f"cannot be measured: {error}")
        return measured

    async def _steer_alone(
        self, server: Server, flight: Flight, measurement: PipelineMeasurement | None
    ) -> None:
        """Keeps a fault of ours with one pipeline from stopping the others; its next tick tries again."""
        if flight.removed:
            return
        now = self._clock()
        try:
            if await self._is_as_it_was(flight, measurement, now):
                return
            await self._steering.steer(server, flight, measurement, now)
        except Exception:
            log.exception("not steered", pipeline=str(flight.pipeline))
            flight.at_rest = False
            return
        reading = flight.reading
        flight.at_rest = self._rest_seconds > TICK_SECONDS and reading is not None and is_at_rest(reading)
        for tell in self.listeners:
            tell((flight.pipeline.namespace, flight.pipeline.name))

    async def _is_as_it_was(
        self, flight: Flight, measurement: PipelineMeasurement | None, now: float
    ) -> bool:
        """Whether a pipeline at rest was found as it was left, so that there is nothing to decide."""
        reading = flight.reading
        if not flight.at_rest or reading is None or measurement is not reading.measurement:
            return False
        if now - flight.swept >= REST_SWEEP_SECONDS or _has_hours(flight):
            return False
        try:
            observed = await self._substrate.observe(flight.pipeline)
        except Exception:  # noqa: BLE001 - whatever it is, a look in full says so
            return False
        return all(observed.get(name) == branch.workers for name, branch in reading.branches.items())

    async def _ring(self, until: float) -> frozenset[str] | None:
        now = self._clock()
        waiting: dict[Server, dict[str, str]] = {}
        self._ringers = {}
        for key, flight in self._flights.items():
            reading = flight.reading
            if reading is None or reading.measurement is None:
                continue
            if listens(reading, at_rest=flight.at_rest):
                with flight.noting("no server"):
                    server = self._server_for(flight.pipeline)
                    if flight.look is not None or (flight.due <= now and server in self._rounds):
                        continue  # what was read of it may be old, and would ring until its look is over
                    last_ids = reading.measurement.last_ids
                    waiting.setdefault(server, {}).update(last_ids)
                    self._ringers |= dict.fromkeys(last_ids, key)
        self._bells.listen(waiting)
        return await self._bells.wait(until)


def _has_hours(flight: Flight) -> bool:
    return any(branch.scale.schedule for branch in flight.pipeline.spec.branches)
