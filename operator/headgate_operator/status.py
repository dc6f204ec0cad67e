"""A pipeline's status from what the last pass found and the pilot's last reading: a pure function.

Conditions follow the Kubernetes API conventions: all of them always present, `lastTransitionTime` moves only with
`status`. Reconciling and Stalled are there for kstatus (Helm, Argo, Flux).
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from pydantic import ValidationError

from headgate_operator.api import BranchStatus, Condition, FanoutPipelineStatus
from headgate_operator.conditions import verdicts

if TYPE_CHECKING:
    from headgate_operator.readings import BranchReading
    from headgate_operator.scene import Scene, Verdict


_UNKNOWABLE = ("published", "backlog", "workers", "oldestSeconds", "deadLetters")


def compose(scene: Scene) -> FanoutPipelineStatus:
    """The status that says what there is."""
    measurement = scene.reading.measurement if scene.reading is not None else None
    backlogs = [branch.backlog for branch in scene.branches]
    known = [backlog for backlog in backlogs if backlog is not None]
    measured = [branch.measurement for branch in scene.branches if branch.measurement is not None]
    all_measured = bool(measured) and len(measured) == len(scene.branches)
    return FanoutPipelineStatus(
        observed_generation=scene.findings.generation,
        conditions=tuple(_condition(scene, name, verdict) for name, verdict in verdicts(scene).items()),
        level=scene.reading.level if scene.reading is not None else "",
        published=measurement.published if measurement is not None else None,
        backlog=sum(known) if backlogs and len(known) == len(backlogs) else None,
        branches_ready=_branches_ready(scene),
        workers=sum(branch.workers.ready for branch in scene.branches) if scene.branches else None,
        oldest_seconds=max(found.age_ms for found in measured) // 1000 if all_measured else None,
        dead_letters=sum(found.dead_letters for found in measured) if all_measured else None,
        plan=tuple(line[:512] for line in scene.findings.plan[:64]),
        branches=tuple(_branch(branch) for branch in scene.branches),
    )


def _branches_ready(scene: Scene) -> str:
    """Branches that have the workers they need, of all: as `kubectl get` shows it."""
    if not scene.branches:
        return ""
    served = sum(1 for branch in scene.branches if branch.workers.ready or not branch.workers.desired)
    return f"{served}/{len(scene.branches)}"


def _branch(branch: BranchReading) -> BranchStatus:
    return BranchStatus(
        name=branch.name,
        replicas=branch.workers.running,
        ready_replicas=branch.workers.ready,
        desired_replicas=branch.replicas,
        backlog=branch.backlog,
        age_seconds=None if branch.age_seconds is None else int(branch.age_seconds),
        dead_letters=None if branch.measurement is None else branch.measurement.dead_letters,
        unread_trimmed=None if branch.measurement is None else branch.measurement.unread_trimmed,
        gate=branch.gate,
        reason="" if branch.decision is None else branch.decision.sentence[:512],
    )


def _condition(scene: Scene, name: str, verdict: Verdict) -> Condition:
    held = scene.held(name)
    same = held is not None and held.status == verdict.status
    now = scene.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Condition(
        type=name,
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message[:4096],
        last_transition_time=held.last_transition_time if held is not None and same else now,
        observed_generation=scene.findings.generation,
    )


def merge_patch(status: FanoutPipelineStatus) -> dict[str, object]:
    """The status as a JSON merge patch for the `status` subresource: what is unknown now is removed there."""
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"status": dict.fromkeys(_UNKNOWABLE) | dumped}


def loaded(status: object) -> FanoutPipelineStatus:
    """The status of an object from the API server; an empty one when it has none, or one of another version."""
    try:
        return FanoutPipelineStatus.model_validate(status or {})
    except ValidationError:
        return FanoutPipelineStatus()


def significant(before: FanoutPipelineStatus, after: FanoutPipelineStatus) -> bool:
    """Whether more than figures changed, so that the status should not wait to be written."""

    def essence(status: FanoutPipelineStatus) -> tuple[object, ...]:
        verdicts = {(known.type, known.status, known.reason) for known in status.conditions}
        return verdicts, status.level, status.observed_generation, status.plan

    return essence(before) != essence(after)
