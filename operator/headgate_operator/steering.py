"""Steering one pipeline for one tick: from what was measured to its workers, its gates and its housekeeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headgate.relay import Relay
from headgate.streams import read_closed, release_grown, sweep
from headgate_operator import topology
from headgate_operator.draining import Draining
from headgate_operator.gating import Gating
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.scaling import Scaling, asked
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.streams import BranchMeasurement, PipelineMeasurement, Server
    from headgate_operator.autoscale import Decision
    from headgate_operator.flight import Flight
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Substrate

SWEEP_SECONDS = 5.0

log = structlog.get_logger()


class Steering:
    """Decides for a pipeline and applies it, through `substrate`; at most `total` workers in a namespace, 0 for any.

    `decided` hears the reason of each decision about workers that differs from the one before.
    """

    def __init__(
        self, substrate: Substrate, *, total: int = 0, decided: Callable[[str], None] = lambda _reason: None
    ) -> None:
        self._substrate = substrate
        self._decided = decided
        self._gating = Gating()
        self._scaling = Scaling(substrate, total=total)
        self._draining = Draining(substrate)

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
            await self._gating.gate(server, flight, branch, found, now)
            decision: Decision | None = None
            if observed is not None:
                published = 0 if measurement is None else measurement.published
                decision = await self._scaling.scale(flight, branch, found, published, now)
                self._tell(flight, branch.name, decision)
            else:
                self._scaling.note(flight, branch, now)
            if found is not None:
                memory.rate.add(now, found.settled)
            readings[branch.name] = BranchReading(
                name=branch.name,
                measurement=found,
                workers=memory.workers,
                replicas=asked(memory.workers, branch, decision),
                delayed=memory.delayed,
                level=memory.level.highest,
                max_age_seconds=branch.scale.max_age_seconds,
                rejected=memory.rejection.lanes if memory.rejection is not None else frozenset(),
                closed=memory.closed,
                settled_per_second=memory.rate.per_second,
                arrival_per_second=memory.scaler.arrival_rate,
                decision=decision,
            )
        draining = await self._draining.scale(flight, measurement, observed)
        if pipeline.growing:
            with flight.noting("new partitions cannot be released"):
                waiting = await release_grown(server, pipeline.keys, pipeline.growing)
                if flight.pipeline is pipeline:  # and no pass has found another manifest meanwhile
                    pipeline = flight.pipeline = pipeline.waiting(waiting)
        await self._gating.reject(server, flight)
        await self._sweep(server, flight, pipeline, measurement, now)
        highest = max(
            (flight.branches[name] for name in pipeline.branch_names), key=lambda each: each.level.highest
        )
        flight.reading = PipelineReading(
            pipeline=pipeline,
            measurement=measurement,
            branches=readings,
            level=highest.level_name,
            published_per_second=flight.rate.per_second,
            draining=draining,
            error="; ".join(flight.errors),
        )

    def _tell(self, flight: Flight, branch: str, decision: Decision) -> None:
        before = flight.reading.branches.get(branch) if flight.reading is not None else None
        last = before.decision if before is not None else None
        if last is None or (last.reason, last.replicas) != (decision.reason, decision.replicas):
            self._decided(decision.reason)

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

    async def _heal(self, server: Server, flight: Flight, pipeline: Pipeline) -> None:
        """Makes groups again that are not there: a branch without its group has no backlog to measure.

        Most likely the server was emptied. Not while a pass changes them, nor when it has: what was flown when this
        look began is not what is wanted then, and a group that is missing may be one that should be.
        """
        if pipeline.is_held or flight.removed or flight.groups.locked() or flight.pipeline is not pipeline:
            return
        async with flight.groups:
            ensured = await topology.ensure(server, pipeline)
        # A server that was emptied does not know what it had; but the groups of what is flown had been made.
        if ensured.made:
            flight.healed |= dict.fromkeys(ensured.made)
            log.warning("groups healed", pipeline=str(pipeline), branches=ensured.made)

    async def _sweep(
        self,
        server: Server,
        flight: Flight,
        pipeline: Pipeline,
        measurement: PipelineMeasurement | None,
        now: float,
    ) -> None:
        if now - flight.swept < SWEEP_SECONDS:
            return
        flight.swept = now
        with flight.noting("cannot sweep"):
            if measurement is None or any(
                measurement.branches[name].backlog is None for name in pipeline.branch_names
            ):
                await self._heal(server, flight, pipeline)
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
                # On the operator's own server its login may do what a pipeline's own may not: it relays for nobody
                # what that one would keep.
                within = pipeline.namespace if pipeline.spec.redis is None else None
                flight.relay = flight.relay or Relay(server, pipeline.keys, within)
                await flight.relay.run()
