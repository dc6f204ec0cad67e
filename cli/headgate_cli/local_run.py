"""A file's pipelines on this machine from start to end: server, groups, pilot, workers, sample events.

All pipelines of a run share one server, one pilot and one substrate, as they would share an operator, so records and
emitted events flow between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams import StreamsError
from headgate_cli.exits import CommandError, Exit
from headgate_cli.local_ending import Ended, Ending
from headgate_cli.local_metrics import serving_metrics
from headgate_cli.local_pipeline import LocalPipeline, measured
from headgate_cli.local_server import connected, server_url
from headgate_cli.places import named_in_a_cluster, places
from headgate_cli.sample_publisher import SamplePublisher
from headgate_cli.samples import sample_events, sampled
from headgate_cli.summary import Summary
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.pilot import Pilot
from headgate_operator.problem import Problem
from headgate_operator.substrates.local import LocalSubstrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headgate.streams import Server
    from headgate_cli.display import Display
    from headgate_cli.manifests import Manifest
    from headgate_operator.contracts import Place
    from headgate_operator.readings import PipelineReading

LOGS = Path(".headgate", "logs")
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Options:
    """What to do with the pipelines."""

    publish: int | None = None
    rate: float | None = None
    until_settled: bool = False
    timeout: float | None = None
    redis_url: str | None = None
    metrics_port: int | None = None
    containers: Mapping[str, str] = field(default_factory=dict)
    """URLs of what stands in for the containers of branches, by BRANCH or PIPELINE/BRANCH."""
    services: Mapping[str, str] = field(default_factory=dict)
    """URLs to push to instead of the manifest's, by BRANCH or PIPELINE/BRANCH."""


async def run_locally(manifests: Sequence[Manifest], options: Options, display: Display) -> Ended:
    """Runs until settled, timed out or interrupted; everything it started is gone when it returns.

    Raises CommandError when it cannot start.
    """
    with (
        places(manifests, options.containers, options.services) as found,
        server_url(options.redis_url) as url,
    ):
        try:
            async with connected(url) as server:
                if options.redis_url is None:
                    display.say(f"server {url} (publish to it from elsewhere with --redis-url)")
                for hint in named_in_a_cluster(manifests, found):
                    display.say(hint)
                return await _Run(manifests, options, display, server, found).run()
        except (StreamsError, Problem, ValueError) as error:
            raise CommandError(str(error)) from error


class _Run:
    def __init__(
        self,
        manifests: Sequence[Manifest],
        options: Options,
        display: Display,
        server: Server,
        found: Mapping[tuple[str, str], Place],
    ) -> None:
        self._pipelines = [LocalPipeline(manifest, server, display.say) for manifest in manifests]
        self._options = options
        self._display = display
        self._server = server
        logs = _logs()
        self._substrate = LocalSubstrate(
            server,
            manifests[0].file.resolve().parent,
            logs,
            http=options.metrics_port is not None,
            places=found,
        )
        self._pilot = Pilot(lambda _: server, self._substrate)
        self._publisher: SamplePublisher | None = None
        if options.publish is not None:
            source = sampled(manifests)
            events = sample_events(source, options.publish)
            self._publisher = SamplePublisher(server, source.pipeline.keys, events, options.rate)
        self._ending = Ending(
            server,
            self._pipelines,
            self._substrate,
            publisher=self._publisher,
            limit=options.timeout,
            logs=logs,
        )
        self._started = time.monotonic()
        self._seconds = 0.0
        self._interrupted = asyncio.Event()

    async def run(self) -> Ended:
        # All are there before the first takes an event: what that emits may be for any of them.
        for each in self._pipelines:
            await each.apply(self._substrate)
        for each in self._pipelines:
            await each.look_for_output()
        for each, found in zip(self._pipelines, await measured(self._server, self._pipelines), strict=True):
            each.before = found
            self._pilot.add(each.pipeline)
        with self._handling_signals(), self._serving_metrics():
            tasks = [asyncio.create_task(self._pilot.run(), name="pilot")]
            if self._publisher is not None:
                tasks.append(asyncio.create_task(self._publisher.run(), name="publisher"))
            ended = Ended()
            try:
                ended = await self._watch(tasks)
                self._seconds = time.monotonic() - self._started
                if ended.code is Exit.INTERRUPTED:
                    self._display.say("draining; Ctrl-C again kills")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if ended.code is Exit.TIMED_OUT:
                    self._substrate.kill()  # whoever sets a time does not mean the time to drain besides
                await asyncio.gather(*(self._substrate.remove(each.pipeline) for each in self._pipelines))
        with contextlib.suppress(StreamsError):
            after = await measured(self._server, self._pipelines)
            each_one = (each.summary(found) for each, found in zip(self._pipelines, after, strict=True))
            self._display.end(Summary(tuple(each_one), self._seconds))
        # Whoever ends a run that has no end of its own has not interrupted it.
        return Ended() if ended.code is Exit.INTERRUPTED and not self._options.until_settled else ended

    async def _watch(self, tasks: list[asyncio.Task[None]]) -> Ended:
        """Shows each second's readings until there is a reason to end."""
        next_show = 0.0
        while True:
            found = self._pilot.readings
            readings = [found.get(each.key) for each in self._pipelines]
            ended = await self._ended(readings, tasks)
            now, known = time.monotonic(), [reading for reading in readings if reading is not None]
            if len(known) == len(readings) and (now >= next_show or ended is not None):
                self._display.show(known, now - self._started)
                next_show = max(next_show + 1.0, now)
            if ended is not None:
                return ended
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._interrupted.wait()

    async def _ended(
        self, readings: Sequence[PipelineReading | None], tasks: list[asyncio.Task[None]]
    ) -> Ended | None:
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
        if self._interrupted.is_set():
            return Ended(Exit.INTERRUPTED, "interrupted before all was settled")
        return await self._ending.look(readings) if self._options.until_settled else None

    def _serving_metrics(self) -> contextlib.AbstractContextManager[None]:
        if self._options.metrics_port is None:
            return contextlib.nullcontext()
        collector = ReadingsCollector(lambda: list(self._pilot.readings.values()))
        return serving_metrics(self._options.metrics_port, collector, self._substrate.addresses)

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
