"""Waiting until all is settled: in real time while anything works, in virtual time when all that is left waits."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headgate.relay import Relay
from headgate.streams import StreamsError, measure, read_closed
from headgate.testing.errors import NotSettledError
from headgate.testing.outbox import read_outbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams import PipelineMeasurement, Server
    from headgate.testing.clock import Clock
    from headgate.testing.waiting import Waiting
    from headgate.testing.workers import BranchWorker
    from headgate_operator.pipeline import Pipeline

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02


class Settling:
    """All pipelines of a test together, since they may emit to each other."""

    def __init__(
        self,
        server: Server,
        pipelines: Sequence[Pipeline],
        workers: Sequence[BranchWorker],
        waiting: Sequence[Waiting],
        clock: Clock,
    ) -> None:
        self._server = server
        self._pipelines = pipelines
        self._workers = workers
        self._waiting = waiting
        self._clock = clock
        self._relays = [Relay(server, pipeline.keys) for pipeline in pipelines]
        self._names = {str(pipeline) for pipeline in pipelines}

    def check(self) -> None:
        """Raises WorkerBrokenError when a worker ended by itself."""
        for worker in self._workers:
            worker.check()

    async def run(self, until_ms: float, seconds: float) -> None:
        """Skips from one virtual time at which something is due to the next, until nothing waits, or `until_ms`.

        What is due at the same time goes retries first. Raises NotSettledError when that takes more than `seconds` of
        real time, WorkerBrokenError, StreamsError.
        """
        deadline = time.monotonic() + seconds
        while True:
            await self._quiet(deadline, seconds)
            dues = [due for waiting in self._waiting if (due := await waiting.next_due()) is not None]
            if not dues or min(dues) > until_ms:
                return
            self._clock.forward(min(dues))
            if sum([await waiting.release_retries() for waiting in self._waiting]):
                continue
            if sum([await waiting.end_joins() for waiting in self._waiting]):
                continue
            # What is due and does not go: its branch is closed, or paused.
            await self._pause(_LONGEST_PAUSE, deadline, seconds)

    async def _quiet(self, deadline: float, seconds: float) -> None:
        """Returns when nothing works and nothing is on its way, whatever waits.

        One look goes over several partitions while they change. But two that find the same have found what was true
        between them: whatever moves leaves a trace in counters that only grow.
        """
        before = None
        pause = _SHORTEST_PAUSE
        while True:
            self.check()
            found = await self._measure()
            if not await self._is_quiet(found):
                before = None
                await self._pause(pause, deadline, seconds)
                pause = min(_LONGEST_PAUSE, pause * 1.5)
                continue
            said = [each.said for each in found]
            if said == before:
                return
            before = said

    async def _pause(self, pause: float, deadline: float, seconds: float) -> None:
        if time.monotonic() > deadline:
            raise NotSettledError(await self._words(seconds))
        await asyncio.sleep(pause)

    async def _measure(self) -> list[PipelineMeasurement]:
        wanted = [(pipeline.keys, pipeline.branch_names) for pipeline in self._pipelines]
        found = [each for each in await measure(self._server, wanted) if each is not None]
        if len(found) < len(wanted):
            raise StreamsError("the server cannot measure a pipeline; see what it logged")
        return found

    async def _is_quiet(self, found: Sequence[PipelineMeasurement]) -> bool:
        is_quiet = True
        for pipeline, relay, figures in zip(self._pipelines, self._relays, found, strict=True):
            if any(branch.undelivered != 0 or branch.pending for branch in figures.branches.values()):
                is_quiet = False
            if figures.outbox and await self._on_its_way(pipeline):
                is_quiet = False
                await relay.run()
        return is_quiet

    async def _on_its_way(self, pipeline: Pipeline) -> int:
        """Entries of the outboxes for pipelines that are here."""
        return sum(left.to in self._names for left in await read_outbox(self._server, pipeline.keys))

    async def _words(self, seconds: float) -> str:
        lines = [f"not settled within {seconds:g} s of real time (virtual seconds: {self._clock.seconds:g}):"]
        for pipeline, figures in zip(self._pipelines, await self._measure(), strict=True):
            if figures.outbox and (count := await self._on_its_way(pipeline)):
                lines.append(f"  pipeline {pipeline.name}: {count} effects on their way to other pipelines")
            if figures.open_joins:
                lines.append(f"  pipeline {pipeline.name}: {figures.open_joins} open joins")
            for worker in self._workers:
                if worker.pipeline is pipeline and (backlog := figures.branches[worker.branch].backlog) != 0:
                    unsettled = "events" if backlog is None else f"{backlog} events"
                    lines.append(f"  {worker}: {unsettled} not settled{await self._why(worker)}")
        return "\n".join(lines)

    async def _why(self, worker: BranchWorker) -> str:
        closed = await read_closed(self._server, worker.pipeline.keys, worker.branch)
        if closed is not None:
            return f"; the branch is closed: {closed.reason}"
        if worker.pipeline.spec.paused or worker.pipeline.branch(worker.branch).paused:
            return "; it is paused by the manifest"
        now = time.monotonic()
        running = [
            f"{each.event.id} (attempt {each.event.attempt}) for {now - each.began:.1f} s"
            for each in worker.attempts
            if each.is_running
        ]
        if not running:
            return ""
        return (
            f"; its handler is at {', '.join(running)}: handlers run in real time, and so does their timeoutSeconds,"
            f" {worker.contract.timeout_seconds:g}; let it end, replace it (handlers=), or give more time (within=)"
        )
