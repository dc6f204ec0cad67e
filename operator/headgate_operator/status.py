"""A pipeline's status from what the last pass found and the pilot's last reading: a pure function.

Conditions follow the Kubernetes API conventions: all of them always present, `lastTransitionTime` moves only with
`status`, reasons are for programs and messages say what to do. Reconciling and Stalled are there for kstatus (Helm,
Argo, Flux).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from headgate_operator.api import (
    BranchStatus,
    Condition,
    ConditionStatus,
    FanoutPipelineStatus,
    GateState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_operator.problem import Problem
    from headgate_operator.readings import BranchReading, PipelineReading
    from headgate_operator.reconcile import Findings

STARTING_SECONDS = 60.0
"""A branch may be without a ready worker for this long before the pipeline stops being Ready."""

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


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

    def held(self, condition: str) -> Condition | None:
        """A condition as it was."""
        return next((known for known in self.before.conditions if known.type == condition), None)

    @property
    def branches(self) -> Sequence[BranchReading]:
        """The branches' readings; none before the first."""
        return tuple(self.reading.branches.values()) if self.reading is not None else ()


def compose(scene: Scene) -> FanoutPipelineStatus:
    """The status that says what there is."""
    verdicts: dict[str, Verdict] = {
        "SpecValid": _spec_valid(scene),
        "RedisReachable": _redis_reachable(scene),
        "WorkersAvailable": _workers_available(scene),
        "ScalingActive": _scaling_active(scene),
        "BackpressureActive": _backpressure_active(scene),
        "DeadLettersPresent": _dead_letters_present(scene),
    }
    ready = _ready(scene, verdicts)
    verdicts = {"Ready": ready} | verdicts
    verdicts["Reconciling"], verdicts["Stalled"] = _progress(scene, ready)
    measurement = scene.reading.measurement if scene.reading is not None else None
    backlogs = [branch.backlog for branch in scene.branches]
    known = [backlog for backlog in backlogs if backlog is not None]
    return FanoutPipelineStatus(
        observed_generation=scene.findings.generation,
        conditions=tuple(_condition(scene, name, verdict) for name, verdict in verdicts.items()),
        level=scene.reading.level if scene.reading is not None else "",
        published=measurement.published if measurement is not None else None,
        backlog=sum(known) if backlogs and len(known) == len(backlogs) else None,
        branches=tuple(_branch(branch) for branch in scene.branches),
    )


def _branch(branch: BranchReading) -> BranchStatus:
    return BranchStatus(
        name=branch.name,
        replicas=branch.workers.running,
        ready_replicas=branch.workers.ready,
        desired_replicas=branch.replicas,
        backlog=branch.backlog,
        age_seconds=None if branch.age_seconds is None else int(branch.age_seconds),
        dead_letters=None if branch.measurement is None else branch.measurement.dead_letters,
        gate=GateState.DELAYED if branch.delayed else GateState.OPEN,
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


def _spec_valid(scene: Scene) -> Verdict:
    problem = scene.findings.spec
    return Verdict(_TRUE, "Valid", "the spec is valid") if problem is None else _from(problem)


def _redis_reachable(scene: Scene) -> Verdict:
    if scene.findings.redis is not None:
        return _from(scene.findings.redis)
    reading = scene.reading
    if reading is not None and reading.measurement is None and reading.error:
        return Verdict(
            _FALSE, "ServerUnavailable", f"{reading.error}; check that it runs, and the URL in the Secret"
        )
    if scene.findings.spec is not None:
        return Verdict(_UNKNOWN, "SpecInvalid", "not tried: the spec is invalid")
    return Verdict(_TRUE, "Connected", "the Redis server answers")


def _workers_available(scene: Scene) -> Verdict:
    if scene.findings.workers is not None:
        return _from(scene.findings.workers)
    if not scene.branches:
        return Verdict(_UNKNOWN, "NotObserved", "the workers have not been looked at yet")
    missing = [branch for branch in scene.branches if branch.workers.desired and not branch.workers.ready]
    if not missing:
        wanted = sum(1 for branch in scene.branches if branch.workers.desired)
        return Verdict(
            _TRUE, "WorkersReady", f"{wanted} of {len(scene.branches)} branches need workers and have them"
        )
    counts = ", ".join(f"{branch.name}: 0 of {branch.workers.desired} ready" for branch in missing)
    held = scene.held("WorkersAvailable")
    since = _time(held.last_transition_time) if held is not None and held.status == _FALSE else scene.now
    if (scene.now - since).total_seconds() <= STARTING_SECONDS:
        return Verdict(_FALSE, "WorkersStarting", counts)
    where = ""
    if (pipeline := scene.findings.pipeline) is not None:
        labels = f"headgate.dev/pipeline={pipeline.name},headgate.dev/branch={missing[0].name}"
        where = f"; see `kubectl -n {pipeline.namespace} describe pods -l {labels}`"
    return Verdict(_FALSE, "WorkersNotReady", counts + where)


def _scaling_active(scene: Scene) -> Verdict:
    if scene.reading is None:
        return Verdict(_UNKNOWN, "NotMeasured", "the backlog has not been measured yet")
    unknown = [branch.name for branch in scene.branches if branch.backlog is None]
    if unknown:
        return Verdict(
            _FALSE, "BacklogUnknown", f"the backlog of {', '.join(unknown)} is unknown: replicas are held"
        )
    if scene.reading.error:
        return Verdict(_FALSE, "ScalingFailed", scene.reading.error)
    return Verdict(_TRUE, "BacklogMeasured", "replicas follow the backlog")


def _backpressure_active(scene: Scene) -> Verdict:
    pipeline = scene.findings.pipeline
    if pipeline is None or pipeline.spec.backpressure is None:
        return Verdict(_FALSE, "NotConfigured", "spec.backpressure is not set")
    if scene.reading is None:
        return Verdict(_UNKNOWN, "NotMeasured", "the backlog has not been measured yet")
    if not scene.reading.level:
        return Verdict(_FALSE, "BelowLevels", "every lane flows")
    gates = ", ".join(
        f"{branch.name}: {' and '.join(sorted(lane.value.capitalize() for lane in branch.delayed))}"
        for branch in scene.branches
        if branch.delayed
    )
    longest = pipeline.spec.backpressure.max_delay_seconds
    return Verdict(
        _TRUE, "LevelCrossed", f"level {scene.reading.level}; lanes that wait, {longest} s at most: {gates}"
    )


def _dead_letters_present(scene: Scene) -> Verdict:
    if scene.reading is None or scene.reading.measurement is None:
        held = scene.held("DeadLettersPresent")
        if held is not None and held.status != _UNKNOWN:
            return Verdict(held.status, held.reason, held.message)  # an outage says nothing about them
        return Verdict(_UNKNOWN, "NotMeasured", "dead letters have not been counted yet")
    measured = ((branch.name, branch.measurement) for branch in scene.branches)
    counts = {
        name: found.dead_letters for name, found in measured if found is not None and found.dead_letters
    }
    if not counts:
        return Verdict(_FALSE, "None", "no event was given up")
    listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
    look = f"headgate dead-letters --redis-url URL -p {scene.reading.pipeline} -b {next(iter(counts))}"
    return Verdict(_TRUE, "EventsGivenUp", f"{listed}; see `{look}`")


def _ready(scene: Scene, verdicts: dict[str, Verdict]) -> Verdict:
    for name in ("SpecValid", "RedisReachable"):
        if verdicts[name].status != _TRUE:
            return Verdict(_FALSE, verdicts[name].reason, verdicts[name].message)
    workers = verdicts["WorkersAvailable"]
    held = scene.held("Ready")
    was_ready = held is not None and held.status == _TRUE
    # Workers that come up from zero, or in a roll-out, do not make a pipeline that works unready.
    if workers.status == _TRUE or (was_ready and workers.reason in {"WorkersStarting", "NotObserved"}):
        return Verdict(_TRUE, "Ready", "events are taken and handled")
    return Verdict(_FALSE, workers.reason, workers.message)


def _progress(scene: Scene, ready: Verdict) -> tuple[Verdict, Verdict]:
    """Reconciling: on its way, wait. Stalled: somebody has to do something."""
    stuck = scene.findings.spec or (
        scene.findings.workers
        if scene.findings.workers is not None and scene.findings.workers.reason == "NameTaken"
        else None
    )
    if stuck is not None:
        return Verdict(_FALSE, "Stalled", ""), Verdict(_TRUE, stuck.reason, stuck.message)
    calm = Verdict(_FALSE, "NotStalled", "")
    if ready.status == _TRUE:
        return Verdict(_FALSE, "UpToDate", ""), calm
    return Verdict(_TRUE, ready.reason, ready.message), calm


def _from(problem: Problem) -> Verdict:
    return Verdict(_FALSE, problem.reason, problem.message)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def merge_patch(status: FanoutPipelineStatus) -> dict[str, object]:
    """The status as a JSON merge patch for the `status` subresource: what is unknown now is removed there."""
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"status": {"published": None, "backlog": None} | dumped}


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
        return verdicts, status.level, status.observed_generation

    return essence(before) != essence(after)
