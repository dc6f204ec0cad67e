"""Keeps every pipeline as its manifest says: passes when something changed, and reports what there is.

A loop for each pipeline, level-triggered: watch events only wake it. It survives everything but its own cancellation,
and may be cancelled anywhere.
"""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from headgate_operator.cluster import on_answer
from headgate_operator.events import Notice, Subject, healing
from headgate_operator.leader import LeadershipLostError
from headgate_operator.logins import ROTATE
from headgate_operator.manifests import PIPELINE_LABEL
from headgate_operator.moving import farewell
from headgate_operator.pacing import Pace
from headgate_operator.plan import is_dry_run, plan
from headgate_operator.problem import Problem
from headgate_operator.reconcile import Findings, reconcile
from headgate_operator.removal import Remover
from headgate_operator.reporter import Reporter
from headgate_operator.room import Rooms, key_of
from headgate_operator.turnstile import place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from headgate.streams import Server
    from headgate_operator.cluster import Cluster
    from headgate_operator.manifests import Manifest
    from headgate_operator.pilot import Pilot
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.readings import PipelineReading
    from headgate_operator.recorder import Recorder
    from headgate_operator.room import Key, Room
    from headgate_operator.servers import Servers
    from headgate_operator.substrates.kubernetes import KubernetesSubstrate
    from headgate_operator.vitals import Vitals

log = structlog.get_logger()

LOOK_SECONDS = 10.0
"""What turns with time alone is looked at this often."""
REST_LOOK_SECONDS = 60.0
"""And this often while the pilot finds the pipeline at rest."""
MANY = 20
"""Passes under way at once, above which the API server may be slow because of them."""


class Keeper:
    """All pipelines of one operator process."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        substrate: KubernetesSubstrate,
        servers: Servers,
        pilot: Pilot,
        recorder: Recorder,
        vitals: Vitals,
    ) -> None:
        self._cluster = cluster
        self._substrate = substrate
        self._servers = servers
        self._pilot = pilot
        self._recorder = recorder
        self._vitals = vitals
        self._reporter = Reporter(cluster, recorder)
        self._remover = Remover(substrate, servers, recorder)
        self._rooms = Rooms()
        self._passing = 0
        pilot.listeners.append(self._stir)

    @property
    def waiting(self) -> int:
        """Pipelines that changed and have not had their pass yet."""
        return sum(1 for _, room in self._rooms if room.changed)

    @property
    def pipelines(self) -> list[Pipeline]:
        """All that are kept, as their last passes found them."""
        found = [room.findings for _, room in self._rooms if not room.removed]
        return [each.pipeline for each in found if each and each.pipeline]

    @property
    def is_busy(self) -> bool:
        """Whether many passes are under way; may be asked from another thread."""
        return self._passing > MANY

    def hung(self, seconds: float) -> list[str]:
        """Pipelines whose pass has waited longer than this for one answer: only a restart can mend that."""
        since = time.monotonic() - seconds
        return [
            "/".join(key)
            for key, room in self._rooms
            if room.waiting_since is not None and room.waiting_since < since
        ]

    async def keep(self, manifest: Mapping[str, Any]) -> None:
        """Keeps one pipeline until cancelled or removed; `manifest` is a live view of the object."""
        room, pace, is_stirred = self._rooms.of(manifest), Pace(due=time.monotonic()), True
        while not room.removed:
            healed: tuple[str, ...] = ()
            try:
                pace.sees(self._is_lost(room, manifest))
                if room.changed or time.monotonic() >= pace.due:
                    room.changed = False
                    findings = await self._pass(room, manifest)
                    soon = bool(findings.draining) or self._substrate.rotating(*key_of(manifest))
                    pace.passes(time.monotonic(), well=findings.clean, soon=soon)
                    healed = findings.healed
                await self._tell_of_healing(manifest, healed)
                await self._report(room, manifest)
            except LeadershipLostError:
                return  # the process ends
            except Exception:
                pace.passes(time.monotonic(), well=False)
                log.exception("pass failed", pipeline="/".join(key_of(manifest)), retry_in=pace.pause)
            # Spread, or a thousand that started together would look together for ever.
            look = (LOOK_SECONDS if is_stirred else REST_LOOK_SECONDS) * random.uniform(0.8, 1.0)
            is_stirred = await room.rest(min(pace.due - time.monotonic(), look)) or not self._rests(manifest)

    async def clean_up(self, manifest: Mapping[str, Any]) -> None:
        """Stops a deleted pipeline's workers and removes its keys, in two minutes at most. Raises LeadershipLostError.

        A server that is gone must not keep the object from going: then the keys are left, and an event says so.
        When there is another of the name, keys and user are that one's, and the workers go with their owner.
        """
        key, room = key_of(manifest), self._rooms.of(manifest)
        room.removed = True
        if self._rooms.named(key) is not room:
            return
        async with room.lock:
            await self._pilot.remove(*key)
            await self._remover.remove(manifest)
            await self._servers.release(*key)
            self._substrate.forget(*key)

    def saw_pipeline(self, event: str | None, manifest: Mapping[str, Any]) -> None:
        """Takes in a watch event: another generation, dry run or password that is asked for is due a pass."""
        metadata = manifest["metadata"]
        if event == "DELETED":
            if self._rooms.lose(manifest):
                self._reporter.forget(*key_of(manifest))
            return
        room = self._rooms.of(manifest)
        rotation = (metadata.get("annotations") or {}).get(ROTATE, "")
        seen = (metadata.get("generation", 0), is_dry_run(manifest), rotation)
        if seen != room.seen:
            room.seen = seen
            room.change()

    def saw_deployment(self, event: str | None, deployment: Manifest) -> None:
        """Takes in a watch event of a child: one that is not as it was left is due a pass."""
        metadata = deployment["metadata"]
        key = (metadata["namespace"], metadata["labels"][PIPELINE_LABEL])
        is_other = self._substrate.saw(event, deployment)
        self._pilot.wake(*key)
        room = self._rooms.named(key)
        if room is None or not is_other:
            return
        if room.waiting_since is None or event == "DELETED":
            room.change()
        else:  # most likely what the pass under way has just written, of which it has no answer yet
            room.doubted[metadata["name"]] = deployment

    def saw_secret(self, pipeline: Pipeline) -> None:
        """Takes in that a pipeline's Secret has another URL than the one it runs by: it is due a pass."""
        if room := self._rooms.named((pipeline.namespace, pipeline.name)):
            room.change()

    def _is_lost(self, room: Room, manifest: Mapping[str, Any]) -> bool | None:
        """Whether the pilot cannot measure it by the login that its Secret had; None before its first tick."""
        pipeline = room.findings.pipeline if room.findings else None
        if pipeline is None or pipeline.spec.redis is None:
            return False  # on the operator's own server a pass finds no other login
        reading = self._reading(key_of(manifest), pipeline.uid)
        return None if reading is None else reading.measurement is None

    def _rests(self, manifest: Mapping[str, Any]) -> bool:
        return self._pilot.rests(*key_of(manifest))

    def _stir(self, key: Key) -> None:
        """The pilot has a new reading."""
        if room := self._rooms.named(key):
            room.stirred.set()

    async def _pass(self, room: Room, manifest: Mapping[str, Any]) -> Findings:
        self._passing += 1
        try:
            return await self._pass_alone(room, manifest)
        finally:
            self._passing -= 1

    async def _pass_alone(self, room: Room, manifest: Mapping[str, Any]) -> Findings:
        async with room.lock:
            room.answered(time.monotonic())
            token = on_answer.set(room.answered)
            standing = place.set(time.monotonic())
            try:
                with self._vitals.reconciling() as under_way:
                    async with self._pilot.changing(*key_of(manifest)):
                        findings = await self._reconcile(manifest)
                    under_way.clean = findings.clean
            finally:
                place.reset(standing)
                on_answer.reset(token)
                room.waiting_since = None
                doubted, room.doubted = room.doubted, {}
                if any(self._substrate.saw(None, deployment) for deployment in doubted.values()):
                    room.change()
            room.findings = findings
            if findings.pipeline is not None and self._is_assigned(findings.pipeline):
                self._pilot.add(findings.pipeline)
            if findings.writes:
                log.info("reconciled", pipeline="/".join(key_of(manifest)), writes=findings.writes)
            return findings

    async def _reconcile(self, manifest: Mapping[str, Any]) -> Findings:
        if is_dry_run(manifest):
            return await plan(manifest, substrate=self._substrate, visit=self._visit)
        return await reconcile(manifest, substrate=self._substrate, connect=self._connect)

    async def _tell_of_healing(self, manifest: Mapping[str, Any], found: Sequence[str]) -> None:
        """An event about groups that were lost, whoever made them again: a pass, or the pilot."""
        key = key_of(manifest)
        healed = tuple(dict.fromkeys((*found, *self._pilot.take_healed(*key))))
        if healed:
            await self._recorder.record(Subject(*key, manifest["metadata"]["uid"]), healing(healed))

    async def _report(self, room: Room, manifest: Mapping[str, Any]) -> None:
        """Tells what there is, once a pass has found something and, where it is flown, the pilot has looked too.

        That it does at once: a status without its reading would be written for one tick.
        """
        if room.findings is not None:
            reading = self._reading(key_of(manifest), manifest["metadata"]["uid"])
            if reading is None and room.findings.clean and self._pilot.flies(*key_of(manifest)):
                return
            output = self._output(room.findings.pipeline)
            await self._reporter.report(manifest, room.findings, reading, output)

    def _output(self, pipeline: Pipeline | None) -> Problem | None:
        """Why the join's records get nowhere: they go to a pipeline of the same namespace and server."""
        if pipeline is None or pipeline.spec.join is None or pipeline.spec.join.output is None:
            return None
        name = pipeline.spec.join.output.pipeline
        field = f"spec.join.output.pipeline: {name!r}"
        room = self._rooms.named((pipeline.namespace, name))
        if room is None or room.removed:
            return Problem(
                "OutputMissing",
                f"{field}: no such pipeline in namespace {pipeline.namespace}: apply it; until then the records wait",
            )
        other = room.findings.pipeline if room.findings is not None else None
        if other is None or not (self._is_assigned(other) and self._is_assigned(pipeline)):
            return None
        if self._servers.of(other) is not self._servers.of(pipeline):
            return Problem(
                "OutputElsewhere",
                f"{field}: is on another Redis server: give both pipelines the same spec.redis; until then the records"
                " wait",
            )
        return None

    def _reading(self, key: Key, uid: str) -> PipelineReading | None:
        reading = self._pilot.reading(*key)
        return reading if reading is not None and reading.pipeline.uid == uid else None

    @asynccontextmanager
    async def _visit(self, pipeline: Pipeline) -> AsyncIterator[Server]:
        source = await self._substrate.redis(pipeline)
        async with self._servers.visit(source.url) as server:
            yield server

    async def _connect(self, pipeline: Pipeline) -> Server:
        source = await self._substrate.redis(pipeline)
        notice: Notice | None = None
        if (old := self._servers.other(pipeline, source.url)) is not None:
            async with self._servers.visit(source.url) as new:
                notice = await farewell(pipeline, old, new)
        server = await self._servers.assign(pipeline, source.url)
        if notice is not None:
            await self._recorder.record(Subject(pipeline.namespace, pipeline.name, pipeline.uid), notice)
        return server

    def _is_assigned(self, pipeline: Pipeline) -> bool:
        try:
            self._servers.of(pipeline)
        except KeyError:
            return False
        return True
