"""What a pipeline's status is judged from, and what a judgement is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headgate_operator.api import Condition, ConditionStatus, FanoutPipelineStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from headgate_operator.problem import Problem
    from headgate_operator.readings import BranchReading, PipelineReading
    from headgate_operator.reconcile import Findings


class Verdict(NamedTuple):
    """A condition without its times."""

    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True)
class Scene:
    """All that a status is made from. `reading` is None until the pilot has looked, or when it looks no more."""

    findings: Findings
    reading: PipelineReading | None
    before: FanoutPipelineStatus
    now: datetime
    output: Problem | None = None
    """Why the join's records get nowhere; None when they do, or go nowhere by intent."""

    def held(self, condition: str) -> Condition | None:
        """A condition as it was."""
        return next((known for known in self.before.conditions if known.type == condition), None)

    @property
    def branches(self) -> Sequence[BranchReading]:
        """The branches' readings; none before the first."""
        return tuple(self.reading.branches.values()) if self.reading is not None else ()


def unmeasured(scene: Scene, name: str, message: str) -> Verdict | None:
    """The verdict while nothing is measured: what it was, as an outage says nothing; None when there is a reading."""
    if scene.reading is not None and scene.reading.measurement is not None:
        return None
    return as_it_was(scene, name, message)


def as_it_was(scene: Scene, name: str, message: str) -> Verdict:
    """The verdict as it was; Unknown, with that message, where there was none."""
    held = scene.held(name)
    if held is not None and held.status != ConditionStatus.UNKNOWN:
        return Verdict(held.status, held.reason, held.message)
    return Verdict(ConditionStatus.UNKNOWN, "NotMeasured", message)
