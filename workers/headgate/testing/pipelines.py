"""A whole pipeline in a test: its manifest on a database of its own, with workers, and with time that is skipped."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from headgate.client import Connection
from headgate.event import Lane, NewEvent
from headgate.streams import Publisher, Server
from headgate.testing.clock import Clock
from headgate.testing.manifests import load_manifest
from headgate.testing.outbox import read_outbox
from headgate.testing.server import database
from headgate.testing.settling import Settling
from headgate.testing.targets import Targets
from headgate.testing.waiting import Waiting
from headgate.testing.workers import make_worker
from headgate_operator import topology
from headgate_operator.pipeline import ManifestError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Unpack

    from headgate.effects import Emit
    from headgate.streams import Receipt
    from headgate.testing.attempts import Attempt
    from headgate.testing.manifests import Manifest, Source
    from headgate.testing.targets import Replacement
    from headgate.testing.workers import BranchWorker
    from headgate_operator.pipeline import Pipeline

__all__ = ["ManifestError", "RunningPipeline", "pipeline"]

REAL_SECONDS = 10.0
"""Of real time that settling may take, unless a test says otherwise."""


class NewEventFields(TypedDict, total=False):
    """What an event to publish may have besides its data; see `headgate.NewEvent`."""

    id: str | None
    type: str
    source: str
    key: str | None
    lane: Lane
    traceparent: str | None


@asynccontextmanager
async def pipeline(
    manifest: Source,
    *,
    handlers: Mapping[str, Replacement] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> AsyncIterator[RunningPipeline]:
    """Runs a manifest in this event loop: a file's path, YAML text, or a dictionary; gives its first pipeline.

    `handlers` replace those of the manifest, by BRANCH or PIPELINE/BRANCH: functions, or URLs of services that run;
    branches that push need one. Functions are imported from the manifest's folder, or from `folder`. Raises
    ManifestError with every mistake of the manifest, ValueError for a replacement of no branch, HandlerLoadError, and
    ServerUnavailableError when no server can be started; when it is left, WorkerBrokenError.
    """
    found = load_manifest(manifest, folder)
    with (
        _importing_from(found.folder),
        database() as place,
        tempfile.TemporaryDirectory(prefix="keys-", dir=place.folder) as keys,
    ):
        targets = Targets(found, handlers or {}, Path(keys))
        server = Server.connect(place.url)
        try:
            await server.execute("", "FLUSHDB")
            async with _running(found, targets, server) as first:
                yield first
        finally:
            await server.aclose()


@asynccontextmanager
async def _running(manifest: Manifest, targets: Targets, server: Server) -> AsyncIterator[RunningPipeline]:
    clock = Clock()
    workers = [
        make_worker(server, each, branch, targets, clock)
        for each in manifest.pipelines
        for branch in each.branch_names
    ]
    for each in manifest.pipelines:
        await topology.ensure(server, each)
    waiting = [
        Waiting(server, each, {one.branch: one.expected for one in workers if one.pipeline is each}, clock)
        for each in manifest.pipelines
    ]
    settling = Settling(server, manifest.pipelines, workers, waiting, clock)
    siblings: dict[str, RunningPipeline] = {}
    for each in manifest.pipelines:
        publisher = await Publisher.open(server, each.namespace, each.name)
        siblings[str(each)] = RunningPipeline(
            server,
            each,
            publisher,
            workers={worker.branch: worker for worker in workers if worker.pipeline is each},
            settling=settling,
            clock=clock,
            siblings=siblings,
        )
    try:
        for worker in workers:
            worker.start()
        yield next(iter(siblings.values()))
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
    settling.check()


class RunningPipeline(Connection):
    """A pipeline that runs in a test; what `headgate.connect` gives, and the virtual clock besides.

    Methods raise WorkerBrokenError when a worker ended by itself.
    """

    def __init__(
        self,
        server: Server,
        pipeline: Pipeline,
        publisher: Publisher,
        *,
        workers: Mapping[str, BranchWorker],
        settling: Settling,
        clock: Clock,
        siblings: Mapping[str, RunningPipeline],
    ) -> None:
        super().__init__(server, pipeline.namespace, pipeline.name, publisher)
        self._spec = pipeline
        self._workers = workers
        self._settling = settling
        self._clock = clock
        self._siblings = siblings

    @property
    def seconds(self) -> float:
        """Virtual seconds that were skipped since the start, of all pipelines of the manifest."""
        return self._clock.seconds

    @property
    def url(self) -> str:
        """The server's URL, for code under test that connects by itself; another test's data is elsewhere."""
        return self._server.url

    def other(self, name: str) -> RunningPipeline:
        """Another pipeline of the manifest, by NAME or NAMESPACE/NAME; raises KeyError."""
        found = [each for key, each in self._siblings.items() if name in (key, each.pipeline)]
        if len(found) != 1:
            raise KeyError(f"{name!r} is none of the manifest's pipelines: {', '.join(self._siblings)}")
        return found[0]

    async def publish(self, *events: Any, **fields: Unpack[NewEventFields]) -> list[Receipt]:
        """Publishes NewEvents or lists of them; anything else is the data of one event, `fields` what else it has.

        Raises TypeError for `fields` that are for no event or for several, and what `Connection.publish` does.
        """
        self._settling.check()
        made: list[NewEvent] = []
        given: list[Any] = []
        for each in events:
            if _are_events(each):
                made += [each] if isinstance(each, NewEvent) else list(each)
            else:
                given.append(each)
                made.append(NewEvent(data=each, **fields))
        if fields and (len(given) != 1 or len(made) != 1):
            raise TypeError(
                f"publish: {', '.join(fields)} with {len(made)} events: give the data of one, or NewEvents"
            )
        return await super().publish(made)

    async def settled(self, *, within: float = REAL_SECONDS) -> None:
        """Returns when every event of every pipeline is settled and every join has ended, skipping what they wait for.

        Dead letters are settled events. Raises NotSettledError after `within` seconds of real time.
        """
        await self._settling.run(math.inf, within)

    async def advance(self, seconds: float, *, within: float = REAL_SECONDS) -> None:
        """Lets so many virtual seconds pass, with all that comes due in them; 0: all that needs no time.

        Raises NotSettledError after `within` seconds of real time.
        """
        until_ms = self._clock.now_ms + round(seconds * 1000)
        await self._settling.run(until_ms, within)
        self._clock.forward(until_ms)

    def attempts(self, branch: str) -> list[Attempt]:
        """Each call of a branch's handler with an event, in the order they began; raises KeyError."""
        if branch not in self._workers:
            raise KeyError(f"{branch!r} is no branch of {self.pipeline}; it has {', '.join(self._workers)}")
        return list(self._workers[branch].attempts)

    async def emitted(self) -> list[Emit]:
        """What handlers emitted to pipelines that are not in the manifest, by NAMESPACE/NAME; it goes nowhere."""
        self._settling.check()
        here = self._siblings.keys()
        found = await read_outbox(self._server, self._spec.keys)
        return [left.emitted() for left in found if left.kind == "emit" and left.to not in here]


def _are_events(given: Any) -> bool:
    """Whether it is what `Connection.publish` takes: an event, a list of events, or an iterator, which is no data."""
    if isinstance(given, list | tuple):
        return all(isinstance(each, NewEvent) for each in given)
    return isinstance(given, NewEvent) or (
        isinstance(given, Iterable) and not isinstance(given, str | bytes | dict | set)
    )


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Handlers may import what lies beside them for as long as they run."""
    path = str(folder)
    if path in sys.path:
        yield
        return
    sys.path.insert(0, path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)
