"""Which pipelines need no look each second: a pure question to a reading.

A pipeline at rest changes only by an event that is published, which rings the doorbell, by its Deployments, of which a
watch tells, or by the hour of the day. So it is looked at every ten seconds, for what no bell tells of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_operator.readings import BranchReading, PipelineReading

_SLOWEST = 0.01  # events a second below which a rate that fades counts as none


def is_at_rest(reading: PipelineReading) -> bool:
    """Whether nothing is under way: no event, retry, join, gate or change of workers, and no rate that still fades."""
    found = reading.measurement
    if found is None or reading.error or reading.level or found.open_joins or found.outbox:
        return False
    if reading.published_per_second >= _SLOWEST or reading.pipeline.is_changing:
        return False
    return all(_rests(reading, branch) for branch in reading.branches.values())


def listens(reading: PipelineReading, *, at_rest: bool) -> bool:
    """Whether the next event published needs a look at once: some branch that takes events has none, or no worker."""
    return any(
        branch.backlog == 0 and (at_rest or branch.replicas == 0)
        for branch in reading.branches.values()
        if not _is_held(reading, branch)
    )


def _rests(reading: PipelineReading, branch: BranchReading) -> bool:
    if branch.delayed or branch.rejected or branch.decision is None or branch.measurement is None:
        return False
    if branch.arrival_per_second >= _SLOWEST or branch.settled_per_second >= _SLOWEST:
        return False
    if not _is_held(reading, branch) and branch.backlog != 0:
        return False
    if branch.decision.reason == "Window":
        return False
    # Whoever else scales takes their own time to follow the decision, which stands.
    return branch.workers.foreign or branch.replicas == branch.workers.desired


def _is_held(reading: PipelineReading, branch: BranchReading) -> bool:
    """Whether it takes nothing, whatever is published, until a person changes that."""
    spec = reading.pipeline.spec
    return spec.paused or branch.closed is not None or reading.pipeline.branch(branch.name).paused
