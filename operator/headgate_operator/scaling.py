"""Scaling one branch for one tick: from what was measured to a decision, and from that to one call of the substrate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headgate_operator import autoscale, inputs
from headgate_operator.api import ScaleEngine

if TYPE_CHECKING:
    from headgate.streams import BranchMeasurement
    from headgate_operator.api import BranchSpec
    from headgate_operator.autoscale import Decision
    from headgate_operator.flight import Flight
    from headgate_operator.substrates import Substrate

log = structlog.get_logger()


class Scaling:
    """Decides how many workers branches have, and asks `substrate` for them.

    Workers that somebody else scales get none of it: KEDA and an autoscaler read the decision, and nobody's workers
    are left as they are.
    """

    def __init__(self, substrate: Substrate) -> None:
        self._substrate = substrate

    async def scale(
        self, flight: Flight, branch: BranchSpec, found: BranchMeasurement | None, published: int, now: float
    ) -> Decision:
        """Decides the branch's replicas and asks the substrate for them in one call when they differ."""
        pipeline, memory = flight.pipeline, flight.branches[branch.name]
        workers = memory.workers
        moment = inputs.moment(flight, branch, found, published, now)
        decision = autoscale.decide(memory.scaler, moment, inputs.limits(pipeline, branch))
        memory.scaler = decision.state
        if workers.foreign and branch.scale.engine is ScaleEngine.NONE:
            why = f"{workers.desired} workers: left alone, as scale.engine is None"
            return replace(decision, replicas=workers.desired, reason="Engine", sentence=why)
        if workers.foreign or decision.replicas == workers.desired:
            return decision
        with flight.noting(f"branch {branch.name}: cannot scale to {decision.replicas}"):
            holding = found.holding if found is not None else {}
            await self._substrate.scale(pipeline, branch.name, decision.replicas, holding)
            log.info(
                "scaled",
                pipeline=str(pipeline),
                branch=branch.name,
                before=workers.desired,
                after=decision.replicas,
                reason=decision.reason,
                because=decision.sentence,
            )
        return decision
