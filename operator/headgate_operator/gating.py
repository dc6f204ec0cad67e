"""Backpressure as the pilot applies it: a gate for each branch, and what publishers of the pipeline are refused.

Both are keys with a time-to-live that is renewed at each tick: when nobody renews them, everything flows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headgate.streams import Gate, Rejection, set_gate, set_rejection
from headgate_operator import backpressure, inputs

if TYPE_CHECKING:
    from headgate.streams import BranchMeasurement, Server
    from headgate_operator.api import BranchSpec
    from headgate_operator.flight import Flight

GATE_TTL_SECONDS = 5.0  # a pilot that dies opens its gates after this

log = structlog.get_logger()


class Gating:
    """Moves the branches' levels and makes the server heed them."""

    async def gate(
        self, server: Server, flight: Flight, branch: BranchSpec, found: BranchMeasurement | None, now: float
    ) -> None:
        """Moves a branch's level and renews its gate; an open one needs no renewal.

        A branch that is paused on purpose is at no level: it protects nobody, and publishers need not pay for it.
        """
        pipeline, memory = flight.pipeline, flight.branches[branch.name]
        levels = () if pipeline.spec.paused or branch.paused else inputs.levels(pipeline, branch)
        if found is not None and not memory.measured:
            memory.measured, memory.level = True, backpressure.resumed(found.held, levels, now)
        before, was_delayed = memory.level, memory.delayed
        if found is not None:
            loads = inputs.loads(found)
            memory.level = backpressure.decide(before, levels, loads, now)
            memory.retry_after_seconds = backpressure.retry_after_seconds(
                memory.level, levels, loads, memory.rate.per_second, now
            )
        elif before.highest > len(levels):
            memory.level = backpressure.LevelState()
        state = memory.level
        memory.delayed = backpressure.delayed_lanes(state, levels)
        memory.level_name = levels[state.highest - 1].name if state.highest else ""
        memory.rejection = None
        if rejected := backpressure.rejected_lanes(state, levels):
            memory.rejection = Rejection(
                rejected, levels[state.rejecting - 1].name, memory.retry_after_seconds
            )
        if (memory.level.index, memory.level.rejecting) != (before.index, before.rejecting):
            log.info(
                "level changed",
                pipeline=str(pipeline),
                branch=branch.name,
                now=memory.level_name or "none",
                delayed=sorted(memory.delayed),
                rejected=sorted(rejected),
            )
        if not memory.delayed and not was_delayed:
            return
        spec = inputs.backpressure_of(pipeline, branch)
        gate = Gate.OPEN
        if spec is not None and memory.delayed:
            gate = Gate(memory.delayed, spec.max_delay_seconds, spec.deadline_seconds)
        with flight.noting(f"branch {branch.name}: the gate cannot be set"):
            await set_gate(server, pipeline.keys, branch.name, gate, GATE_TTL_SECONDS)

    async def reject(self, server: Server, flight: Flight) -> None:
        """Renews what publishers are refused: the lanes that any branch is at a rejecting level for."""
        wanted = [
            memory.rejection
            for name in flight.pipeline.branch_names
            if (memory := flight.branches[name]).rejection is not None
        ]
        if not wanted and not flight.rejects:
            return
        rejection = Rejection.union(wanted) if wanted else None
        with flight.noting("what publishers are refused cannot be set"):
            await set_rejection(server, flight.pipeline.keys, rejection, GATE_TTL_SECONDS)
            flight.rejects = rejection is not None
