"""When a local run ends, and how: all is settled, time is up, or something never will be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_cli.exits import Exit
from headgate_cli.local_pipeline import measured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headgate.streams import PipelineMeasurement, Server
    from headgate_cli.local_pipeline import LocalPipeline
    from headgate_cli.sample_publisher import SamplePublisher
    from headgate_operator.readings import PipelineReading
    from headgate_operator.substrates.local import LocalSubstrate

FAILURES_TO_GIVE_UP = 3  # of a worker in a row, each soon after its start


@dataclass(frozen=True)
class Ended:
    """How a run ended, and why in one line when not well."""

    code: Exit = Exit.OK
    reason: str = ""


class Ending:
    """Looks for a reason to end a run that ends by itself: `limit` seconds are its time, None is for ever."""

    def __init__(
        self,
        server: Server,
        pipelines: Sequence[LocalPipeline],
        substrate: LocalSubstrate,
        *,
        publisher: SamplePublisher | None,
        limit: float | None,
        logs: Path,
    ) -> None:
        self._server = server
        self._pipelines = pipelines
        self._substrate = substrate
        self._publisher = publisher
        self._limit = limit
        self._logs = logs
        self._started = time.monotonic()

    async def look(self, readings: Sequence[PipelineReading | None]) -> Ended | None:
        """The reason to end now; `readings` are the pilot's last of each pipeline, None where it has none yet.

        Raises ServerUnavailableError, CommandError when a pipeline cannot be measured.
        """
        if self._seem_settled(readings) and (found := await self._settled()) is not None:
            return await self._verdict(found)
        if stuck := self._stuck(readings):
            return Ended(Exit.WORKERS_FAILED, stuck)
        if self._limit is not None and time.monotonic() - self._started >= self._limit:
            left = self._unsettled(readings)
            return Ended(Exit.TIMED_OUT, f"not settled within {self._limit:g} s: {left} (logs: {self._logs})")
        return None

    def _seem_settled(self, readings: Sequence[PipelineReading | None]) -> bool:
        """Whether all was published, and each pipeline was settled when the pilot last looked at it."""
        if self._publisher is not None and not self._publisher.done:
            return False
        return all(
            reading is not None and reading.measurement is not None and each.is_settled(reading.measurement)
            for each, reading in zip(self._pipelines, readings, strict=True)
        )

    async def _settled(self) -> list[PipelineMeasurement] | None:
        """The figures of all pipelines if they were settled at one and the same time, else None.

        They are measured one after the other, so an event on its way from one that is measured late to one that was
        measured before is in neither's figures. Where a second measurement, begun when the first was over, finds each
        the same, nothing came to any of them between the two: then all were settled at once.
        """
        first = await measured(self._server, self._pipelines)
        for each, found in zip(self._pipelines, first, strict=True):
            if not each.is_settled(found) or await each.has_on_its_way(found):
                return None
        second = await measured(self._server, self._pipelines, first)
        return second if all(a is b for a, b in zip(first, second, strict=True)) else None

    async def _verdict(self, found: list[PipelineMeasurement]) -> Ended:
        for each, after in zip(self._pipelines, found, strict=True):
            if letters := await each.dead_letters(after):
                return Ended(Exit.DEAD_LETTERS, letters)
        return Ended()

    def _stuck(self, readings: Sequence[PipelineReading | None]) -> str:
        """Why some branch will never settle its events; empty when all may."""
        for each, reading in zip(self._pipelines, readings, strict=True):
            if closed := each.closed(reading):
                return closed
        for failing in self._substrate.failing():
            if failing.hopeless or failing.failures >= FAILURES_TO_GIVE_UP:
                (failed,) = (each for each in self._pipelines if str(each.pipeline) == failing.pipeline)
                branch = failed.manifest.called(failing.branch)
                return f"branch {branch}: its workers cannot run: {failing.last_words} (log: {failing.log})"
        return ""

    def _unsettled(self, readings: Sequence[PipelineReading | None]) -> str:
        waiting = [
            f"{each.manifest.label}: {left}" if each.manifest.label else left
            for each, reading in zip(self._pipelines, readings, strict=True)
            if (left := each.unsettled(reading))
        ]
        if self._publisher is not None and not self._publisher.done:
            waiting.append("sample events are still being published")
        return "; ".join(waiting) or "not measured since the last was published"
