"""Writing events, aggregated: the same again counts up what is there, and chatter is held to a budget.

As client-go's correlator does (tools/events, tools/record/events_cache.go): equal events within minutes become one with
a series, and what is merely normal is limited for each pipeline by a bucket of tokens. Warnings are never held back.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headgate_operator.api import API_VERSION, KIND
from headgate_operator.cluster import ClusterError, NotFoundError
from headgate_operator.events import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate_operator.cluster import Cluster
    from headgate_operator.events import Notice, Subject

log = structlog.get_logger()

CONTROLLER = "headgate.dev/operator"
SERIES_SECONDS = 360.0
"""The same event within this time counts as one; Kubernetes' own components use six minutes too."""
BURST, REFILL_SECONDS = 25, 60.0
"""Normal events of one pipeline at once, and the seconds after which it may write one more."""
_REMEMBERED = 4096
_LONGEST_NOTE = 1024  # the API server's limit
_EVENTS = "events.k8s.io/v1"


@dataclass
class _Series:
    name: str
    count: int
    last: float


@dataclass
class _Budget:
    tokens: float
    at: float


class Recorder:
    """Writes events. `instance` names this process. An event that cannot be written is logged, never an error."""

    def __init__(
        self, cluster: Cluster, instance: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._instance = instance[:128]
        self._clock = clock
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._budgets: dict[str, _Budget] = {}

    async def record(self, subject: Subject, notice: Notice) -> None:
        """Writes one event about a pipeline, or counts up the one that says the same."""
        pipeline = f"{subject.namespace}/{subject.name}"
        log.info("event", pipeline=pipeline, reason=notice.reason, note=notice.note)
        try:
            if await self._again(subject, notice):
                return
            if notice.severity is Severity.NORMAL and not self._afford(subject.uid):
                log.info(
                    "event not written: too many of this pipeline", pipeline=pipeline, reason=notice.reason
                )
                return
            name = f"{subject.name}.{uuid.uuid4().hex[:16]}"
            await self._cluster.create(self._event(subject, notice, name))
            self._remember((subject.uid, notice.reason, notice.note), _Series(name, 1, self._clock()))
        except ClusterError as error:
            log.warning("event not written", reason=notice.reason, error=str(error))

    async def _again(self, subject: Subject, notice: Notice) -> bool:
        """Counts up the event that says the same, if there is one."""
        key = (subject.uid, notice.reason, notice.note)
        series = self._series.get(key)
        if series is None or self._clock() - series.last > SERIES_SECONDS:
            return False
        count = series.count + 1
        change = {"series": {"count": count, "lastObservedTime": _now()}}
        try:
            await self._cluster.patch(_EVENTS, "Event", subject.namespace, series.name, change)
        except NotFoundError:
            return False
        self._remember(key, _Series(series.name, count, self._clock()))
        return True

    def _afford(self, uid: str) -> bool:
        now = self._clock()
        budget = self._budgets.pop(uid, None) or _Budget(BURST, now)
        tokens = min(float(BURST), budget.tokens + (now - budget.at) / REFILL_SECONDS)
        self._budgets[uid] = _Budget(max(0.0, tokens - 1), now) if tokens >= 1 else _Budget(tokens, now)
        while len(self._budgets) > _REMEMBERED:
            del self._budgets[next(iter(self._budgets))]
        return tokens >= 1

    def _remember(self, key: tuple[str, str, str], series: _Series) -> None:
        self._series.pop(key, None)
        self._series[key] = series
        while len(self._series) > _REMEMBERED:
            del self._series[next(iter(self._series))]

    def _event(self, subject: Subject, notice: Notice, name: str) -> dict[str, object]:
        return {
            "apiVersion": _EVENTS,
            "kind": "Event",
            "metadata": {"namespace": subject.namespace, "name": name},
            "eventTime": _now(),
            "type": notice.severity.value,
            "reason": notice.reason,
            "note": notice.note[:_LONGEST_NOTE],
            "action": notice.action,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
