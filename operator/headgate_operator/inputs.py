"""What the decisions are made from: the API's models and a measurement, in the decisions' own terms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from headgate.contract import Ordering
from headgate_operator import autoscale, backpressure
from headgate_operator.schedule import Hours

if TYPE_CHECKING:
    from headgate.event import Lane
    from headgate.streams import BranchMeasurement
    from headgate_operator.api import BackpressureSpec, BranchSpec
    from headgate_operator.flight import Flight
    from headgate_operator.pipeline import Pipeline


def backpressure_of(pipeline: Pipeline, branch: BranchSpec) -> BackpressureSpec | None:
    """The branch's own backpressure, else the pipeline's; None where neither is given."""
    return branch.backpressure if branch.backpressure is not None else pipeline.spec.backpressure


def levels(pipeline: Pipeline, branch: BranchSpec) -> tuple[backpressure.Level, ...]:
    """The levels of backpressure of a branch; none where neither it nor its pipeline has any."""
    spec = backpressure_of(pipeline, branch)
    return tuple(
        backpressure.Level(
            name=level.name,
            lag=level.lag,
            release_lag=level.release_lag,
            delay=frozenset(lane.lane for lane in level.delay or ()),
            age_seconds=level.age_seconds,
            reject=frozenset(lane.lane for lane in level.reject or ()),
        )
        for level in (spec.levels if spec is not None else ())
    )


def limits(pipeline: Pipeline, branch: BranchSpec) -> autoscale.ScaleLimits:
    """A branch's bounds of scale. A partition of an ordered branch has one worker: more of them would have nothing."""
    scale, rate = branch.scale, branch.rate_limit
    useful = pipeline.spec.source.partitions if branch.ordering is Ordering.KEY else scale.max
    return autoscale.ScaleLimits(
        min=branch.scale.min,
        max=max(scale.min, min(scale.max, useful)),
        events_per_second=rate.events_per_second if rate is not None else math.inf,
        drain_within_seconds=branch.scale.drain_within_seconds,
        scale_down_after_seconds=branch.scale.scale_down_after_seconds,
        concurrency=branch.concurrency,
        max_age_seconds=branch.scale.max_age_seconds,
        max_step=branch.scale.max_step,
    )


def moment(
    flight: Flight, branch: BranchSpec, found: BranchMeasurement | None, published: int, now: float
) -> autoscale.ScalerInputs:
    """This second of a branch; `found` is None while it cannot be measured, `now` is of the pilot's clock."""
    memory = flight.branches[branch.name]
    figures = autoscale.ScalerInputs(
        now=now,
        published=published,
        settled=0,
        busy_seconds=0.0,
        backlog=None,
        current=memory.workers.desired,
        ready=memory.workers.ready,
        restarts=memory.workers.restarts,
        closed=memory.closed is not None,
        paused=flight.pipeline.spec.paused or branch.paused,
    )
    if found is None:
        return figures
    delayed = memory.delayed
    return replace(
        figures,
        settled=found.settled,
        busy_seconds=found.busy_us / 1e6,
        backlog=found.backlog,
        at_least=found.at_least,
        deferred=deferred(found, delayed),
        age_seconds=found.age_ms / 1000,
        holders=sum(events > 0 for events in found.holding.values()),
    )


def schedule(branch: BranchSpec) -> tuple[Hours, ...]:
    """A branch's hours with a higher minimum."""
    return tuple(Hours(each.start, each.end, each.timezone, each.min) for each in branch.scale.schedule)


def loads(found: BranchMeasurement) -> dict[Lane, backpressure.LaneLoad]:
    """What each lane of a branch holds."""
    return {
        lane: backpressure.LaneLoad(load.backlog, load.age_ms / 1000) for lane, load in found.lanes.items()
    }


def deferred(found: BranchMeasurement, delayed: frozenset[Lane]) -> int:
    """Events of the backlog that nobody may take yet: retries not due, and lanes behind the gate."""
    behind = sum(found.lanes[lane].undelivered or 0 for lane in delayed if lane in found.lanes)
    return found.delayed + behind
