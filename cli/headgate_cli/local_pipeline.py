"""One pipeline of a local run: brought to the server, measured, and asked whether all of its events are settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.streams import (
    NotProvisionedError,
    PipelineMeasurement,
    find_pipeline,
    measure,
    read_dead_letters,
)
from headgate_cli.exits import CommandError
from headgate_cli.settlement import is_settled, on_their_way, unsettled
from headgate_cli.summary import Figures, PipelineSummary
from headgate_operator.reconcile import reconcile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.streams import PipelineKeys, Server
    from headgate_cli.manifests import Manifest
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.readings import PipelineReading
    from headgate_operator.substrates import Substrate


class LocalPipeline:
    """One pipeline of a run on `server`; `say` tells people what they should know."""

    def __init__(self, manifest: Manifest, server: Server, say: Callable[[str], None]) -> None:
        self.manifest = manifest
        self.pipeline = manifest.pipeline
        self._server = server
        self._say = say
        self._output_is_here = True
        self.before: PipelineMeasurement = PipelineMeasurement()
        """What it was when the run began."""

    @property
    def key(self) -> tuple[str, str]:
        """What the pilot knows it by."""
        return self.pipeline.namespace, self.pipeline.name

    @property
    def wanted(self) -> tuple[PipelineKeys, Sequence[str]]:
        """What of it is measured."""
        return self.pipeline.keys, self.pipeline.branch_names

    async def apply(self, substrate: Substrate) -> None:
        """The operator's own pass, over this machine's processes; raises CommandError for its first problem."""

        async def connect(_: Pipeline) -> Server:
            return self._server

        findings = await reconcile(self.manifest.document, substrate=substrate, connect=connect)
        for problem in (findings.spec, findings.redis, findings.workers):
            if problem is not None:
                where = f"pipeline {self.manifest.label}: " if self.manifest.label else ""
                raise CommandError(f"{where}{problem}") from problem
        if findings.pipeline is not None:
            # Nobody drains here: there are no workers of a branch that the manifest has no more.
            self.pipeline = findings.pipeline.leaving(frozenset())
        for name, left in findings.draining.items():
            self._say(
                f"branch {self.manifest.called(name)} is not in the manifest any more and has"
                f" {'some' if left is None else left} events left, which no worker here takes: put it back, or let it"
                " go with onRemove: Delete"
            )

    async def look_for_output(self) -> None:
        """Says where the records stay when the pipeline that they are for is not on this server, nor in this run."""
        join = self.pipeline.join
        if join is None or join.output is None:
            return
        try:
            await find_pipeline(self._server, self.pipeline.namespace, join.output)
        except NotProvisionedError:
            self._output_is_here = False
            self._say(f"pipeline {join.output} is not on this server: records for it wait in the outbox")

    def is_settled(self, found: PipelineMeasurement) -> bool:
        """Whether nothing of it is left; entries of its outbox for pipelines that are not here are none of it."""
        return is_settled(found, outbox_counts=self._output_is_here)

    async def has_on_its_way(self, found: PipelineMeasurement) -> bool:
        """Whether something that its outbox has may still arrive; to be asked where `is_settled` says yes."""
        return bool(found.outbox) and await on_their_way(self._server, self.pipeline.keys)

    def unsettled(self, reading: PipelineReading | None) -> str:
        """What is left of it; empty when that is nothing."""
        if reading is None or reading.measurement is None:
            return "the server cannot be measured"
        return ", ".join(unsettled(reading.measurement))

    def closed(self, reading: PipelineReading | None) -> str:
        """Why a branch of it takes nothing; empty when all do."""
        for branch in reading.branches.values() if reading is not None else ():
            if branch.closed is not None:
                return f"branch {self.manifest.called(branch.name)} is closed: {branch.closed.reason}"
        return ""

    async def dead_letters(self, after: PipelineMeasurement) -> str:
        """How many dead letters the first branch got that got any, and why; empty when none did."""
        for name in self.pipeline.branch_names:
            count = after.branches[name].dead - self.before.branches[name].dead
            if count > 0:
                letters = await read_dead_letters(self._server, self.pipeline.keys, name, 1)
                first = f"; the first, {letters[0].id}: {letters[0].error.strip()}" if letters else ""
                one_line = " ".join(first.split())
                return f"branch {self.manifest.called(name)}: dead-lettered {count} events{one_line}"
        return ""

    def summary(self, after: PipelineMeasurement) -> PipelineSummary:
        """What became of its events since the run began."""
        return PipelineSummary(str(self.pipeline), self.manifest.label, Figures.between(self.before, after))


async def measured(
    server: Server, pipelines: Sequence[LocalPipeline], known: Sequence[PipelineMeasurement] = ()
) -> list[PipelineMeasurement]:
    """All of them, in one round trip; the same objects as in `known` where nothing has changed.

    Raises CommandError when one cannot be measured, ServerUnavailableError.
    """
    found = await measure(server, [each.wanted for each in pipelines], known)
    whole = [each for each in found if each is not None]
    if len(whole) < len(found):
        unknown = ", ".join(
            str(each.pipeline) for each, one in zip(pipelines, found, strict=True) if one is None
        )
        raise CommandError(f"pipeline {unknown}: the server cannot measure it; see its log")
    return whole
