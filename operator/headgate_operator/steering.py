"""Steering one pipeline for one tick: from what was measured to its workers, its gates and its housekeeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headgate.relay import Relay
from headgate.streams import Gate, read_closed, set_gate, sweep
from headgate_operator import backpressure, inputs, topology
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.scaling import Scaling
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from headgate.streams import BranchMeasurement, PipelineMeasurement, Server
    from headgate_operator.autoscale import Decision
    from headgate_operator.flight import Flight
    from headgate_operator.substrates import Substrate

GATE_TTL_SECONDS = 5.0  # a pilot that dies opens its gates after this
SWEEP_SECONDS = 5.0

log = structlog.get_logger()


class Steering:
    """Decides for a pipeline and applies it, through `substrate`."""

    def __init__(self, substrate: Substrate) -> None:
        self._substrate = substrate
        self._scaling = Scaling(substrate)

    async def steer(
        self, server: Server, flight: Flight, measurement: PipelineMeasurement | None, now: float
    ) -> None:
        """Decides and applies for one pipeline. Errors go into its reading; what they concern is held."""
        pipeline = flight.pipeline
        observed: dict[str, Workers] | None = None
        with flight.noting("workers cannot be observed"):
            observed = await self._substrate.observe(pipeline)
        if measurement is not None:
            flight.rate.add(now, measurement.published)
        readings: dict[str, BranchReading] = {}
        for branch in pipeline.spec.branches:
            memory = flight.branches[branch.name]
            if observed is not None:
                memory.workers = observed.get(branch.name, Workers())
            found = measurement.branches.get(branch.name) if measurement is not None else None
            await self._note_closed(server, flight, branch.name, found)
            await self._gate(server, flight, branch.name, found, now)
            decision: Decision | None = None
            if observed is not None:
                published = 0 if measurement is None else measurement.published
                decision = await self._scaling.scale(flight, branch, found, published, now)
            if found is not None:
                memory.rate.add(now, found.settled)
            readings[branch.name] = BranchReading(
                name=branch.name,
                measurement=found,
                workers=memory.workers,
                replicas=memory.workers.desired if decision is None else decision.replicas,
                delayed=backpressure.delayed_lanes(memory.level, inputs.levels(pipeline)),
                closed=memory.closed,
                settled_per_second=memory.rate.per_second,
                arrival_per_second=memory.scaler.arrival_rate,
                decision=decision,
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

    async def _note_closed(
        self, server: Server, flight: Flight, branch: str, found: BranchMeasurement | None
    ) -> None:
        """Remembers why a branch is closed, if it is; asks the server once."""
        memory = flight.branches[branch]
        if found is None:
            return
        if found.gate != "closed":
            memory.closed = None
        elif memory.closed is None:
            with flight.noting(f"branch {branch}: closed, and why cannot be read"):
                memory.closed = await read_closed(server, flight.pipeline.keys, branch)
                log.warning("branch closed", pipeline=str(flight.pipeline), branch=branch)

    async def _gate(
        self, server: Server, flight: Flight, branch: str, found: BranchMeasurement | None, now: float
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
        with flight.noting(f"branch {branch}: the gate cannot be set"):
            await set_gate(server, pipeline.keys, branch, gate, GATE_TTL_SECONDS)

    async def _sweep(
        self, server: Server, flight: Flight, measurement: PipelineMeasurement | None, now: float
    ) -> None:
        if now - flight.swept < SWEEP_SECONDS:
            return
        flight.swept = now
        pipeline = flight.pipeline
        with flight.noting("cannot sweep"):
            if measurement is None or any(b.backlog is None for b in measurement.branches.values()):
                # Most likely the server was emptied: a branch without its group has no backlog to measure.
                ensured = await topology.ensure(server, pipeline)
                # A server that was emptied does not know what it had; but the groups of what is flown had been made.
                if ensured.made:
                    flight.healed |= dict.fromkeys(ensured.made)
                    log.warning("groups healed", pipeline=str(pipeline), branches=ensured.made)
            swept = await sweep(server, pipeline.keys, pipeline.join)
            if swept.lost or swept.dropped:
                log.warning(
                    "events lost to a cap",
                    pipeline=str(pipeline),
                    unsettled_events=swept.lost,
                    dead_letters=swept.dropped,
                )
        if measurement is not None and measurement.outbox:
            # Workers do this at once. But a record whose time ran out may find none.
            with flight.noting("cannot relay what was emitted"):
                flight.relay = flight.relay or Relay(server, pipeline.keys)
                await flight.relay.run()
