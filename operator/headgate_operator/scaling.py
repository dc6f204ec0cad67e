"""Scaling one branch for one tick: from what was measured to a decision, and from that to one call of the substrate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headgate_operator import autoscale, inputs, pricing
from headgate_operator.api import ScaleEngine
from headgate_operator.fair_share import Claim
from headgate_operator.schedule import fewest
from headgate_operator.totals import Claimant, Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.streams import BranchMeasurement
    from headgate_operator.api import BranchSpec
    from headgate_operator.autoscale import Decision
    from headgate_operator.flight import Flight
    from headgate_operator.substrates import Substrate, Workers

log = structlog.get_logger()


def _wall() -> datetime:
    return datetime.now(UTC)


class Scaling:
    """Decides how many workers branches have, and asks `substrate` for them: at most `total` in a namespace, 0 for any.

    Workers that somebody else scales get none of it: KEDA and an autoscaler read the decision, and so may whoever
    scales what is left to nobody. For the first two pods are priced while fewer are wanted, as nobody asks before
    they stop some. `wall` tells the hour of the day.
    """

    def __init__(self, substrate: Substrate, *, total: int = 0, wall: Callable[[], datetime] = _wall) -> None:
        self._substrate = substrate
        self._totals = Totals(total)
        self._wall = wall

    async def scale(
        self, flight: Flight, branch: BranchSpec, found: BranchMeasurement | None, published: int, now: float
    ) -> Decision:
        """Decides the branch's replicas and asks the substrate for them in one call when they differ."""
        pipeline, memory = flight.pipeline, flight.branches[branch.name]
        workers = memory.workers
        moment = inputs.moment(flight, branch, found, published, now)
        if hours := inputs.schedule(branch):
            moment = replace(moment, scheduled_min=fewest(hours, self._wall()))
        limits = inputs.limits(pipeline, branch)
        decision = autoscale.decide(memory.scaler, moment, limits)
        memory.scaler = decision.state
        if workers.foreign and branch.scale.engine is ScaleEngine.NONE:
            self.note(flight, branch, now)
            why = f"left alone, as scale.engine is None; the pilot would have {decision.sentence}"
            return replace(decision, sentence=why)
        decision = self._within_total(flight, branch, decision, max(limits.min, moment.scheduled_min), now)
        if workers.foreign:
            await self._price(flight, branch, found, decision.replicas, now)
            return decision
        if decision.replicas == workers.desired:
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

    async def _price(
        self, flight: Flight, branch: BranchSpec, found: BranchMeasurement | None, wanted: int, now: float
    ) -> None:
        """Has those who scale this branch stop idle workers first, when they get to it; holds the prices if unknown."""
        if found is None:
            return
        memory = flight.branches[branch.name]
        prices, due = pricing.decide(memory.prices, wanted, memory.workers.desired, found.holding, now)
        with flight.noting(f"branch {branch.name}: its pods cannot be priced"):
            if due:
                await self._substrate.price(flight.pipeline, branch.name, found.holding)
            memory.prices = prices

    def note(self, flight: Flight, branch: BranchSpec, now: float) -> None:
        """Counts the workers of a branch that is not decided about, as far as they are known, against the total."""
        running = flight.branches[branch.name].workers.desired
        self._totals.note(flight.pipeline.namespace, _claimant(flight, branch), running, now)

    def _within_total(
        self, flight: Flight, branch: BranchSpec, decision: Decision, least: int, now: float
    ) -> Decision:
        """The decision, or as much of it as the namespace's total leaves to this branch."""
        running = flight.branches[branch.name].workers.desired
        claim = Claim(decision.replicas, min(least, decision.replicas), running)
        namespace = flight.pipeline.namespace
        granted = self._totals.grant(namespace, _claimant(flight, branch), claim, now)
        if granted >= decision.replicas:
            return decision
        why = (
            f"{autoscale.counted(granted)}: {decision.replicas} are wanted, but namespace {namespace} may have"
            f" {self._totals.total} in all, and this is the branch's share ({decision.reason}: {decision.sentence})"
        )
        return replace(decision, replicas=granted, reason="Total", sentence=why)


def asked(workers: Workers, branch: BranchSpec, decision: Decision | None) -> int:
    """The workers that are asked for: those that there are where nobody has decided, or nobody here is to follow."""
    left_alone = workers.foreign and branch.scale.engine is ScaleEngine.NONE
    return workers.desired if decision is None or left_alone else decision.replicas


def _claimant(flight: Flight, branch: BranchSpec) -> Claimant:
    return Claimant(flight.pipeline.name, branch.name)
