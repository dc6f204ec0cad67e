"""Taking a deleted pipeline down: its workers, its keys and its user, as far as its server still answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from headgate_operator import topology
from headgate_operator.api import API_VERSION, GROUP, KIND
from headgate_operator.cluster import ClusterError, NotFoundError
from headgate_operator.events import Notice, Severity, Subject
from headgate_operator.leader import LeadershipLostError
from headgate_operator.pipeline import ManifestError, load_pipeline, remains
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.streams import Server
    from headgate_operator.cluster import Cluster
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.recorder import Recorder
    from headgate_operator.servers import Servers
    from headgate_operator.substrates.kubernetes import KubernetesSubstrate

log = structlog.get_logger()

FINALIZER = f"{GROUP}/cleanup"
REMOVE_ATTEMPTS = 3
LET_GO_ATTEMPTS = 10
_LET_GO_SECONDS = 0.2  # before the second attempt; each waits as much longer


class Remover:
    """Takes pipelines down; what is left on a server that is gone is told in an event."""

    def __init__(self, substrate: KubernetesSubstrate, servers: Servers, recorder: Recorder) -> None:
        self._substrate = substrate
        self._servers = servers
        self._recorder = recorder

    async def remove(self, manifest: Mapping[str, Any]) -> None:
        """Stops a pipeline's workers and removes its keys and its user; raises nothing but LeadershipLostError.

        That needs no more of the manifest than its name and, where that can be read, its server.
        """
        try:
            pipeline = load_pipeline(manifest)
        except ManifestError as error:  # another version may have stored it
            pipeline = remains(manifest)
            log.warning("manifest cannot be read", pipeline=str(pipeline), error=str(error))
        try:
            count = await self._take_down(pipeline)
            log.info("pipeline removed", pipeline=str(pipeline), keys=count)
        except Problem as problem:
            note = f"the pipeline's keys are left on its Redis server: {problem}"
            await self._warn(pipeline, "KeysLeft", note)
        except LeadershipLostError:
            raise
        except Exception as error:
            log.exception("clean-up failed", pipeline=str(pipeline))
            note = f"the pipeline may have left keys on its Redis server: {error!r}"
            await self._warn(pipeline, "KeysLeft", note)
        await self._dismiss(pipeline)

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
            await self._warn(pipeline, problem.reason, str(problem))
        except Exception as error:
            log.exception("user not removed", pipeline=str(pipeline))
            note = f"the pipeline may have left its user on its Redis server: {error!r}"
            await self._warn(pipeline, "UserLeft", note)

    async def _warn(self, pipeline: Pipeline, reason: str, note: str) -> None:
        subject = Subject(pipeline.namespace, pipeline.name, pipeline.uid)
        await self._recorder.record(subject, Notice(Severity.WARNING, reason, note, "Delete"))

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


async def let_go(cluster: Cluster, manifest: Mapping[str, Any]) -> None:
    """Takes our finaliser off a pipeline that is cleaned up, so that the API server lets it go.

    kopf would do so itself, but it tries once: when the object changed meanwhile (409) it waits for a watch event, and
    of an object that only waits to go there is none. What fails here to the last is left to kopf.
    """
    metadata = manifest["metadata"]
    place = API_VERSION, KIND, metadata["namespace"], metadata["name"]
    for attempt in range(1, LET_GO_ATTEMPTS + 1):
        try:
            live = (await cluster.get(*place))["metadata"]
            held = live.get("finalizers", [])
            if live["uid"] != metadata["uid"] or FINALIZER not in held:
                return
            left = [each for each in held if each != FINALIZER]
            # With its version: another's finaliser that came meanwhile is not taken off with ours.
            change = {"metadata": {"finalizers": left, "resourceVersion": live["resourceVersion"]}}
            await cluster.patch(*place, change)
        except NotFoundError:
            return
        except ClusterError as error:
            pipeline = "/".join(place[2:])
            log.warning("finaliser not taken off", pipeline=pipeline, error=str(error), attempt=attempt)
            await asyncio.sleep(_LET_GO_SECONDS * attempt)
        else:
            return
