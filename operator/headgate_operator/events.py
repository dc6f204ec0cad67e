"""Kubernetes events about a pipeline: on transitions only, so that `kubectl describe` tells a story and not a log."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_operator.api import ConditionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_operator.api import FanoutPipelineStatus


class Severity(enum.StrEnum):
    """The two types of event there are."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class Notice:
    """One event to be: reason and action are CamelCase words, the note is a sentence."""

    severity: Severity
    reason: str
    note: str
    action: str = "Reconcile"


@dataclass(frozen=True)
class Subject:
    """The pipeline an event is about."""

    namespace: str
    name: str
    uid: str


_ON_TRUE = {
    "Ready": (Severity.NORMAL, "Ready"),
    "RedisReachable": (Severity.NORMAL, "RedisReachable"),
    "BackpressureActive": (Severity.NORMAL, "BackpressureEngaged"),
    "BranchClosed": (Severity.WARNING, "BranchClosed"),
    "EventsTrimmed": (Severity.WARNING, "EventsTrimmed"),
    "DeadLettersPresent": (Severity.WARNING, "DeadLettersPresent"),
    "OutputMissing": (Severity.WARNING, "OutputMissing"),
    "Paused": (Severity.NORMAL, "Paused"),
    "Stalled": (Severity.WARNING, "Stalled"),
}
_ON_FALSE = {
    "Ready": (Severity.WARNING, "NotReady"),
    "RedisReachable": (Severity.WARNING, "RedisUnreachable"),
    "BackpressureActive": (Severity.NORMAL, "BackpressureReleased"),
    "BranchClosed": (Severity.NORMAL, "BranchOpened"),
    "DeadLettersPresent": (Severity.NORMAL, "DeadLettersCleared"),
    "OutputMissing": (Severity.NORMAL, "OutputFound"),
    "Paused": (Severity.NORMAL, "Resumed"),
}
_GOOD_AT_FIRST = {"RedisReachable": ConditionStatus.TRUE, "Ready": ConditionStatus.FALSE}
"""What needs no event when a condition is found so for the first time; False for all others."""


def transitions(before: FanoutPipelineStatus, after: FanoutPipelineStatus) -> list[Notice]:
    """The events that tell how one status became the other; none when nothing of note changed."""
    notices: list[Notice] = []
    held = {condition.type: condition.status for condition in before.conditions}
    for condition in after.conditions:
        name = condition.type
        was = held.get(name, ConditionStatus.UNKNOWN)
        if was == ConditionStatus.UNKNOWN:
            was = _GOOD_AT_FIRST.get(name, ConditionStatus.FALSE)
        engaged_further = name == "BackpressureActive" and after.level and after.level != before.level
        if condition.status == ConditionStatus.UNKNOWN or (condition.status == was and not engaged_further):
            continue
        table = _ON_TRUE if condition.status == ConditionStatus.TRUE else _ON_FALSE
        if name in table:
            notices.append(Notice(*table[name], condition.message))
    return notices + _scalings(before, after)


def healing(branches: Sequence[str]) -> Notice:
    """The event that tells of groups that were lost, as after a FLUSHALL or an eviction, and are there again."""
    note = (
        f"consumer groups of {', '.join(branches)} were lost on the Redis server and made again; what was not settled"
        " then is delivered again as far as the streams still hold it; look for FLUSHALL, evictions or a failover"
    )
    return Notice(Severity.WARNING, "GroupsHealed", note, "Heal")


def _scalings(before: FanoutPipelineStatus, after: FanoutPipelineStatus) -> list[Notice]:
    desired = {branch.name: branch.desired_replicas for branch in before.branches}
    notices = []
    for branch in after.branches:
        was = desired.get(branch.name, branch.desired_replicas)
        if was != branch.desired_replicas:
            reason = "ScaledUp" if branch.desired_replicas > was else "ScaledDown"
            backlog = "unknown" if branch.backlog is None else branch.backlog
            why = branch.reason or f"backlog {backlog}"
            note = f"branch {branch.name}: {was} -> {branch.desired_replicas} workers: {why}"
            notices.append(Notice(Severity.NORMAL, reason, note, "Scale"))
    return notices
