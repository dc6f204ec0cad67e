"""Writing a pipeline's status, and events about what changed: at once on transitions, else every ten seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate_operator.api import API_VERSION, KIND, FanoutPipelineStatus
from headgate_operator.cluster import NotFoundError
from headgate_operator.events import Subject, transitions
from headgate_operator.scene import Scene
from headgate_operator.status import compose, loaded, merge_patch, significant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate_operator.cluster import Cluster
    from headgate_operator.problem import Problem
    from headgate_operator.readings import PipelineReading
    from headgate_operator.reconcile import Findings
    from headgate_operator.recorder import Recorder

FIGURES_SECONDS = 10.0
"""Status is written at most this often for the sake of figures alone."""
LOOK_SECONDS = 10.0
"""Conditions that turn with time alone are looked at this often."""


@dataclass
class _Told:
    """What was last told of one pipeline."""

    uid: str
    status: FanoutPipelineStatus | None = None
    written: float = float("-inf")
    looked: float = float("-inf")
    waiting: bool = False
    """Whether figures changed that were not written yet."""
    findings: Findings | None = None
    reading: PipelineReading | None = None


class Reporter:
    """Tells of all pipelines of one operator process."""

    def __init__(
        self, cluster: Cluster, recorder: Recorder, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._clock = clock
        self._told: dict[tuple[str, str], _Told] = {}

    async def report(
        self,
        manifest: Mapping[str, Any],
        findings: Findings,
        reading: PipelineReading | None,
        output: Problem | None = None,
    ) -> None:
        """Writes the status if it is not what was last written, and events about what changed.

        `output` is why the join's records get nowhere. Raises ClusterError when the API server refuses; the next call
        tries again.
        """
        metadata = manifest["metadata"]
        key, uid = (metadata["namespace"], metadata["name"]), metadata["uid"]
        told = self._told.get(key)
        if told is None or told.uid != uid:
            told = self._told[key] = _Told(uid)
        now = self._clock()
        due = now - told.written >= FIGURES_SECONDS
        unchanged = told.findings is findings and told.reading is reading
        if unchanged and now - told.looked < LOOK_SECONDS and not (told.waiting and due):
            return
        before = told.status if told.status is not None else loaded(manifest.get("status"))
        if (
            reading is None
            and findings.clean
            and before.observed_generation == findings.generation
            and not findings.plan
        ):
            return  # the pilot of a new leader has not looked yet: what the last one saw still stands
        after = compose(Scene(findings, reading, before, datetime.now(UTC), output))
        if after != before and (due or significant(before, after)):
            try:
                await self._cluster.patch(API_VERSION, KIND, *key, merge_patch(after), subresource="status")
            except NotFoundError:
                return
            told.status, told.written = after, self._clock()
            told.waiting = False
            for notice in transitions(before, after):
                await self._recorder.record(Subject(*key, uid), notice)
        else:
            told.waiting = after != before
            told.status = before
        told.findings, told.reading, told.looked = findings, reading, now

    def forget(self, namespace: str, name: str) -> None:
        """Drops what is remembered of a pipeline that is gone."""
        self._told.pop((namespace, name), None)
