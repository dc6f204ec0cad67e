"""A pipeline on this machine from its start to its end: server, groups, pilot, workers, sample events."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams import (
    NotProvisionedError,
    Server,
    StreamsError,
    find_pipeline,
    measure,
    read_dead_letters,
)
from headgate_cli.display import Summary
from headgate_cli.exits import CommandError, Exit
from headgate_cli.local_metrics import serving_metrics
from headgate_cli.local_server import connected, server_url
from headgate_cli.places import places
from headgate_cli.sample_publisher import SamplePublisher
from headgate_cli.samples import sample_events
from headgate_cli.settlement import is_settled, unsettled
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.pilot import Pilot
from headgate_operator.problem import Problem
from headgate_operator.reconcile import reconcile
from headgate_operator.substrates.local import LocalSubstrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.streams import PipelineMeasurement
    from headgate_cli.display import Display
    from headgate_cli.manifests import Manifest
    from headgate_operator.contracts import Place
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.readings import PipelineReading

LOGS = Path(".headgate", "logs")
LOOK_SECONDS = 0.05
FAILURES_TO_GIVE_UP = 3  # of a worker in a row, each soon after its start


@dataclass(frozen=True)
class Options:
    """What to do with the pipeline."""

    publish: int | None = None
    rate: float | None = None
    until_settled: bool = False
    timeout: float | None = None
    redis_url: str | None = None
    metrics_port: int | None = None
    containers: Mapping[str, str] = field(default_factory=dict)
    """URLs of what stands in for the containers of branches."""


@dataclass(frozen=True)
class Ended:
    """How a run ended, and why in one line when not well."""

    code: Exit = Exit.OK
    reason: str = ""


async def run_locally(manifest: Manifest, options: Options, display: Display) -> Ended:
    """Runs until settled, timed out or interrupted; everything it started is gone when it returns.

    Raises CommandError when it cannot start.
    """
    with places(manifest, options.containers) as found, server_url(options.redis_url) as url:
        try:
            async with connected(url) as server:
                if options.redis_url is None:
                    display.say(f"server {url} (publish to it from elsewhere with --redis-url)")
                return await _Run(manifest, options, display, server, found).run()
        except (StreamsError, Problem, ValueError) as error:
            raise CommandError(str(error)) from error


class _Run:
    def __init__(
        self,
        manifest: Manifest,
        options: Options,
        display: Display,
        server: Server,
        found: Mapping[str, Place],
    ) -> None:
        self._document = manifest.document
        self._pipeline = manifest.pipeline
        self._options = options
        self._display = display
        self._server = server
        self._logs = _logs()
        self._substrate = LocalSubstrate(
            server,
            manifest.file.resolve().parent,
            self._logs,
            http=options.metrics_port is not None,
            places=found,
        )
        self._pilot = Pilot(lambda _: server, self._substrate)
        self._publisher: SamplePublisher | None = None
        if options.publish is not None:
            events = sample_events(manifest, options.publish)
            self._publisher = SamplePublisher(server, manifest.pipeline.keys, events, options.rate)
        self._started = time.monotonic()
        self._seconds = 0.0
        self._interrupted = asyncio.Event()
        self._output_is_here = True

    async def run(self) -> Ended:
        await self._reconcile()
        await self._look_for_output()
        before = await self._measured()
        self._pilot.add(self._pipeline)
        with self._handling_signals(), self._serving_metrics():
            tasks = [asyncio.create_task(self._pilot.run(), name="pilot")]
            if self._publisher is not None:
                tasks.append(asyncio.create_task(self._publisher.run(), name="publisher"))
            ended = Ended()
            try:
                ended = await self._watch(before, tasks)
                self._seconds = time.monotonic() - self._started
                if ended.code is Exit.INTERRUPTED:
                    self._display.say("draining; Ctrl-C again kills")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if ended.code is Exit.TIMED_OUT:
                    self._substrate.kill()  # whoever sets a time does not mean the time to drain besides
                await self._substrate.remove(self._pipeline)
        with contextlib.suppress(StreamsError):
            self._display.end(self._summary(before, await self._measured()))
        # Whoever ends a run that has no end of its own has not interrupted it.
        return Ended() if ended.code is Exit.INTERRUPTED and not self._options.until_settled else ended

    async def _reconcile(self) -> None:
        """The operator's own pass, over this machine's processes; raises the first Problem it finds."""

        async def connect(_: Pipeline) -> Server:
            return self._server

        findings = await reconcile(self._document, substrate=self._substrate, connect=connect)
        for problem in (findings.spec, findings.redis, findings.workers):
            if problem is not None:
                raise problem
        if findings.pipeline is not None:
            # Nobody drains here: there are no workers of a branch that the manifest has no more.
            self._pipeline = findings.pipeline.leaving(frozenset())
        for name, left in findings.draining.items():
            self._display.say(
                f"branch {name} is not in the manifest any more and has {'some' if left is None else left} events left,"
                " which no worker here takes: put it back, or let it go with onRemove: Delete"
            )

    async def _look_for_output(self) -> None:
        """Says where the records stay when the pipeline that they are for is not on this server."""
        join = self._pipeline.join
        if join is None or join.output is None:
            return
        try:
            await find_pipeline(self._server, self._pipeline.namespace, join.output)
        except NotProvisionedError:
            self._output_is_here = False
            self._display.say(
                f"pipeline {join.output} is not on this server: records for it wait in the outbox"
            )

    async def _watch(self, before: PipelineMeasurement, tasks: list[asyncio.Task[None]]) -> Ended:
        """Shows each second's reading until there is a reason to end."""
        next_show, key = 0.0, (self._pipeline.namespace, self._pipeline.name)
        while True:
            reading = self._pilot.readings.get(key)
            now = time.monotonic()
            ended = await self._ended(before, reading, tasks)
            if reading is not None and (now >= next_show or ended is not None):
                self._display.show(reading, now - self._started)
                next_show = max(next_show + 1.0, now)
            if ended is not None:
                return ended
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._interrupted.wait(), LOOK_SECONDS)

    async def _ended(
        self, before: PipelineMeasurement, reading: PipelineReading | None, tasks: list[asyncio.Task[None]]
    ) -> Ended | None:
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
        if self._interrupted.is_set():
            return Ended(Exit.INTERRUPTED, "interrupted before all was settled")
        if not self._options.until_settled:
            return None
        if reading is not None and self._settled(before, reading):
            return await self._verdict(before)
        if stuck := self._stuck(reading):
            return Ended(Exit.WORKERS_FAILED, stuck)
        limit = self._options.timeout
        if limit is not None and time.monotonic() - self._started >= limit:
            return Ended(
                Exit.TIMED_OUT,
                f"not settled within {limit:g} s: {self._unsettled(reading)} (logs: {self._logs})",
            )
        return None

    def _stuck(self, reading: PipelineReading | None) -> str:
        """Why some branch will never settle its events; empty when all may."""
        for branch in reading.branches.values() if reading is not None else ():
            if branch.closed is not None:
                return f"branch {branch.name} is closed: {branch.closed.reason}"
        for failing in self._substrate.failing():
            if failing.hopeless or failing.failures >= FAILURES_TO_GIVE_UP:
                return f"branch {failing.branch}: its workers cannot run: {failing.last_words} (log: {failing.log})"
        return ""

    def _settled(self, before: PipelineMeasurement, reading: PipelineReading) -> bool:
        """Whether this reading shows all that was published as settled, and every join emitted."""
        found = reading.measurement
        if found is None or not is_settled(found, outbox_counts=self._output_is_here):
            return False
        publisher = self._publisher
        return publisher is None or (
            publisher.done and found.published - before.published >= publisher.published
        )

    async def _verdict(self, before: PipelineMeasurement) -> Ended:
        after = await self._measured()
        for name in self._pipeline.branch_names:
            count = after.branches[name].dead - before.branches[name].dead
            if count > 0:
                letters = await read_dead_letters(self._server, self._pipeline.keys, name, 1)
                first = f"; the first, {letters[0].id}: {letters[0].error.strip()}" if letters else ""
                one_line = " ".join(first.split())
                return Ended(Exit.DEAD_LETTERS, f"branch {name}: dead-lettered {count} events{one_line}")
        return Ended()

    def _unsettled(self, reading: PipelineReading | None) -> str:
        found = reading.measurement if reading is not None else None
        if found is None:
            return "the server cannot be measured"
        waiting = unsettled(found)
        if self._publisher is not None and not self._publisher.done:
            waiting.append("sample events are still being published")
        return ", ".join(waiting) or "not measured since the last was published"

    async def _measured(self) -> PipelineMeasurement:
        (found,) = await measure(self._server, [(self._pipeline.keys, self._pipeline.branch_names)])
        if found is None:
            raise CommandError(f"pipeline {self._pipeline}: the server cannot measure it; see its log")
        return found

    def _summary(self, before: PipelineMeasurement, after: PipelineMeasurement) -> Summary:
        pairs = {name: (before.branches[name], after.branches[name]) for name in self._pipeline.branch_names}
        return Summary(
            published=after.published - before.published,
            settled={name: new.settled - old.settled for name, (old, new) in pairs.items()},
            dead_lettered=sum(new.dead - old.dead for old, new in pairs.values()),
            joined=after.joined - before.joined,
            partial=after.partial - before.partial,
            seconds=self._seconds,
        )

    def _serving_metrics(self) -> contextlib.AbstractContextManager[None]:
        if self._options.metrics_port is None:
            return contextlib.nullcontext()
        collector = ReadingsCollector(self._readings)
        return serving_metrics(self._options.metrics_port, collector, self._substrate.addresses)

    def _readings(self) -> list[PipelineReading]:
        return list(self._pilot.readings.values())

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """First signal: drain. Second: kill, and lose nothing but time, as another run claims what was held."""

        def on_signal() -> None:
            if self._interrupted.is_set():
                self._substrate.kill()
            self._interrupted.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _logs() -> Path:
    """Where workers write: .headgate/logs here, or a folder for temporary files where this one is read-only."""
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="headgate-logs-"))
    return LOGS.resolve()
