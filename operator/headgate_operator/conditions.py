"""Conditions of a pipeline: one verdict each, from what the last pass found and the pilot's last reading.

Reasons are for programs, messages for people: they say what to do.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from headgate_operator.api import ConditionStatus, ScaleEngine
from headgate_operator.inputs import backpressure_of
from headgate_operator.scene import Verdict, as_it_was, unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.event import Lane
    from headgate_operator.problem import Problem
    from headgate_operator.scene import Scene

STARTING_SECONDS = 60.0
"""A branch may be without a ready worker for this long before the pipeline stops being Ready."""

TRIMMED_SECONDS = 3600.0
"""EventsTrimmed holds for this long, and is told again if it then still goes on."""

_ENGINES = {
    ScaleEngine.KEDA: "KEDA",
    ScaleEngine.HPA: "a HorizontalPodAutoscaler",
    ScaleEngine.NONE: "nobody",
}

_STUCK = frozenset(
    {"NameTaken", "PodRefused", "UsersRefused", "NoWorkerImage", "KedaNotInstalled", "NoScalerAddress"}
)
"""Reasons of workers that are not applied, for which somebody has to do something."""

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


def verdicts(scene: Scene) -> dict[str, Verdict]:
    """Every condition there is, by name."""
    found = {
        "SpecValid": _spec_valid(scene),
        "RedisReachable": _redis_reachable(scene),
        "WorkersAvailable": _workers_available(scene),
        "ScalingActive": _scaling_active(scene),
        "BackpressureActive": _backpressure_active(scene),
        "BranchClosed": _branch_closed(scene),
        "EventsTrimmed": _events_trimmed(scene),
        "DeadLettersPresent": _dead_letters_present(scene),
        "OutputMissing": _output_missing(scene),
        "Paused": _paused(scene),
    }
    ready = _ready(scene, found)
    reconciling, stalled = _progress(scene, ready)
    return {"Ready": ready} | found | {"Reconciling": reconciling, "Stalled": stalled}


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
    if scene.findings.spec is not None and (reading is None or reading.measurement is None):
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
    return Verdict(_TRUE, "BacklogMeasured", f"replicas follow the backlog{_exceptions(scene)}")


def _exceptions(scene: Scene) -> str:
    """The branches whose replicas do not follow the backlog, and why."""
    told = []
    if closed := [branch.name for branch in scene.branches if branch.closed is not None]:
        told.append(f"{', '.join(closed)}: closed, and held at scale.min")
    if scene.reading is not None:
        told += [
            f"{name}: taken out, works off the {'' if left is None else f'{left} '}events it still has"
            for name, left in scene.reading.draining.items()
        ]
    pipeline = scene.findings.pipeline
    if pipeline is not None:
        told += [
            f"{branch.name}: paused"
            for branch in pipeline.spec.branches
            if pipeline.spec.paused or branch.paused
        ]
        told += [
            f"{branch.name}: scaled by {_ENGINES[branch.scale.engine]}"
            for branch in pipeline.spec.branches
            if branch.scale.engine in _ENGINES
        ]
    return f", but for {'; '.join(told)}" if told else ""


def _paused(scene: Scene) -> Verdict:
    pipeline = scene.findings.pipeline
    if pipeline is None:
        return as_it_was(scene, "Paused", "the spec cannot be read")
    if pipeline.spec.paused:
        return Verdict(
            _TRUE,
            "PipelinePaused",
            "spec.paused is set: events wait and no branch has workers; unset it to go on",
        )
    paused = [branch.name for branch in pipeline.spec.branches if branch.paused]
    if paused:
        return Verdict(
            _TRUE,
            "BranchPaused",
            f"spec.branches[].paused is set for {', '.join(paused)}: events wait for them; unset it to go on",
        )
    return Verdict(_FALSE, "NotPaused", "nothing is paused")


def _output_missing(scene: Scene) -> Verdict:
    pipeline = scene.findings.pipeline
    if pipeline is None:
        return as_it_was(scene, "OutputMissing", "the spec cannot be read")
    if scene.output is not None:
        return Verdict(_TRUE, scene.output.reason, scene.output.message)
    join = pipeline.spec.join
    if join is None or join.output is None:
        return Verdict(_FALSE, "NotConfigured", "spec.join.output is not set")
    return Verdict(_FALSE, "Found", f"records go to pipeline {join.output.pipeline}")


def _backpressure_active(scene: Scene) -> Verdict:
    pipeline = scene.findings.pipeline
    specs = {} if pipeline is None else {b.name: backpressure_of(pipeline, b) for b in pipeline.spec.branches}
    if not any(specs.values()):
        return Verdict(_FALSE, "NotConfigured", "spec.backpressure is not set")
    if scene.reading is None:
        return Verdict(_UNKNOWN, "NotMeasured", "the backlog has not been measured yet")
    if not scene.reading.level:
        return Verdict(_FALSE, "BelowLevels", "every lane flows")
    told = [f"level {scene.reading.level}"]
    gates = [
        f"{branch.name}: {_lanes(branch.delayed)} ({spec.max_delay_seconds} s at most)"
        for branch in scene.branches
        if branch.delayed and (spec := specs.get(branch.name)) is not None
    ]
    if gates:
        told.append(f"lanes that wait: {', '.join(gates)}")
    refused = [f"{_lanes(each.rejected)} for {each.name}" for each in scene.branches if each.rejected]
    if refused:
        told.append(f"publishers are refused {', '.join(refused)}")
    return Verdict(_TRUE, "LevelCrossed", "; ".join(told))


def _lanes(lanes: Iterable[Lane]) -> str:
    return " and ".join(sorted(lane.value.capitalize() for lane in lanes))


def _branch_closed(scene: Scene) -> Verdict:
    if (unknown := unmeasured(scene, "BranchClosed", "gates have not been looked at yet")) is not None:
        return unknown
    closed = [(branch.name, branch.closed) for branch in scene.branches if branch.closed is not None]
    if not closed or scene.reading is None:
        return Verdict(_FALSE, "Open", "every branch takes events")
    told = "; ".join(f"{name} since {why.at or 'some time'}: {why.reason}" for name, why in closed)
    how = f"headgate open --redis-url URL -p {scene.reading.pipeline} -b {closed[0][0]}"
    return Verdict(
        _TRUE,
        "TargetGone",
        f"{told}; its events wait and none is lost: name another target, or open it again with `{how}`",
    )


def _events_trimmed(scene: Scene) -> Verdict:
    if (
        unknown := unmeasured(scene, "EventsTrimmed", "trimmed events have not been counted yet")
    ) is not None:
        return unknown
    before = {branch.name: branch.unread_trimmed or 0 for branch in scene.before.branches}
    counts = {
        branch.name: branch.measurement.unread_trimmed
        for branch in scene.branches
        if branch.measurement is not None
    }
    held = scene.held("EventsTrimmed")
    if any(count > before.get(name, 0) for name, count in counts.items()):
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
        return Verdict(
            _TRUE,
            "RetentionExceeded",
            f"events were trimmed before a branch had settled them, so far {listed}; raise"
            " spec.source.retention.maxEvents or maxAgeSeconds, or let the branch work faster",
        )
    if held is not None and held.status == _TRUE:
        since = scene.now - _time(held.last_transition_time)
        if since.total_seconds() < TRIMMED_SECONDS:
            return Verdict(_TRUE, held.reason, held.message)
    return Verdict(_FALSE, "None", "nothing was trimmed of late that a branch had not settled")


def _dead_letters_present(scene: Scene) -> Verdict:
    if (
        unknown := unmeasured(scene, "DeadLettersPresent", "dead letters have not been counted yet")
    ) is not None:
        return unknown
    measured = ((branch.name, branch.measurement) for branch in scene.branches)
    counts = {
        name: found.dead_letters for name, found in measured if found is not None and found.dead_letters
    }
    if not counts or scene.reading is None:
        return Verdict(_FALSE, "None", "no event was given up")
    listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
    look = f"headgate dead-letters --redis-url URL -p {scene.reading.pipeline} -b {next(iter(counts))}"
    return Verdict(_TRUE, "EventsGivenUp", f"{listed}; see `{look}`")


def _ready(scene: Scene, found: dict[str, Verdict]) -> Verdict:
    for name in ("SpecValid", "RedisReachable"):
        if found[name].status != _TRUE:
            return Verdict(_FALSE, found[name].reason, found[name].message)
    workers = found["WorkersAvailable"]
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
        if scene.findings.workers is not None and scene.findings.workers.reason in _STUCK
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
