"""Taking a deleted pipeline down: its workers, its keys and its user, as far as its server still answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from headgate_operator import topology
from headgate_operator.cluster import ClusterError
from headgate_operator.events import Notice, Severity, Subject
from headgate_operator.pipeline import ManifestError, load_pipeline
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.streams import Server
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.recorder import Recorder
    from headgate_operator.servers import Servers
    from headgate_operator.substrates.kubernetes import KubernetesSubstrate

log = structlog.get_logger()

REMOVE_ATTEMPTS = 3


class Remover:
    """Takes pipelines down; what is left on a server that is gone is told in an event."""

    def __init__(self, substrate: KubernetesSubstrate, servers: Servers, recorder: Recorder) -> None:
        self._substrate = substrate
        self._servers = servers
        self._recorder = recorder

    async def remove(self, manifest: Mapping[str, Any]) -> None:
        """Stops a pipeline's workers and removes its keys and its user; never raises."""
        metadata = manifest["metadata"]
        key, uid = (metadata["namespace"], metadata["name"]), metadata["uid"]
        try:
            pipeline = load_pipeline(manifest)
            count = await self._take_down(pipeline)
            log.info("pipeline removed", pipeline=str(pipeline), keys=count)
            await self._dismiss(pipeline)
        except (Problem, ManifestError) as problem:
            note = f"the pipeline's keys are left on its Redis server: {problem}"
            await self._recorder.record(
                Subject(*key, uid), Notice(Severity.WARNING, "KeysLeft", note, "Delete")
            )
        except Exception as error:
            log.exception("clean-up failed", pipeline="/".join(key))
            note = f"the pipeline may have left keys on its Redis server: {error!r}"
            await self._recorder.record(
                Subject(*key, uid), Notice(Severity.WARNING, "KeysLeft", note, "Delete")
            )

    async def _take_down(self, pipeline: Pipeline) -> int:
        """Stops the workers, then removes the keys, for one that still runs makes some again; returns their number.

        Nobody waits for workers when the server is gone: they have a grace period, and whoever deletes, none.
        """
        stopping = asyncio.create_task(self._remove_workers(pipeline))
        try:
            server = await self._server(pipeline)
            await topology.answer(server)
            await stopping
            return await topology.remove(server, pipeline)
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)

    async def _dismiss(self, pipeline: Pipeline) -> None:
        """Removes the pipeline's user, if it has one; an event tells of one that is left."""
        try:
            await self._substrate.dismiss(pipeline)
        except Problem as problem:
            subject = Subject(pipeline.namespace, pipeline.name, pipeline.uid)
            await self._recorder.record(
                subject, Notice(Severity.WARNING, problem.reason, str(problem), "Delete")
            )

    async def _server(self, pipeline: Pipeline) -> Server:
        """The server for the last time: as assigned, since the Secret may be gone before the pipeline."""
        try:
            return self._servers.of(pipeline)
        except KeyError:
            pass
        try:
            source = await self._substrate.redis(pipeline)
            return await self._servers.assign(pipeline, source.url)
        except ClusterError as error:
            raise Problem("SecretUnreadable", f"the Secret with its URL cannot be read: {error}") from error

    async def _remove_workers(self, pipeline: Pipeline) -> None:
        for attempt in range(1, REMOVE_ATTEMPTS + 1):
            try:
                return await self._substrate.remove(pipeline)
            except ClusterError as error:
                log.warning("workers not removed", pipeline=str(pipeline), error=str(error), attempt=attempt)
                await asyncio.sleep(attempt)
        return None  # they go with their owner
