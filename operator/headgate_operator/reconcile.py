"""One pass: spec, then streams and groups, then workers; what stands in the way becomes findings, not exceptions.

Level-triggered: a pass compares all that is wanted with all that is there and knows nothing of what changed. Every step
is idempotent, so a pass that dies after any call is made good by the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from headgate.streams import ServerUnavailableError
from headgate_operator import expressions, topology
from headgate_operator.api import OnRemove
from headgate_operator.pipeline import ManifestError, Pipeline, load_pipeline
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from headgate.streams import Ensured, Server
    from headgate_operator.substrates import Substrate

log = structlog.get_logger()


@dataclass(frozen=True)
class Findings:
    """What a pass found. `pipeline` is None when the manifest cannot be read; a None problem means all is well."""

    generation: int
    pipeline: Pipeline | None
    spec: Problem | None = None
    redis: Problem | None = None
    workers: Problem | None = None
    writes: int = 0
    """Changes made to streams, groups and workers: 0 for a pass over an unchanged pipeline."""
    healed: tuple[str, ...] = ()
    """Branches whose groups had been lost, and were made again."""
    plan: tuple[str, ...] = ()
    """What a dry run would change, a sentence each."""
    draining: Mapping[str, int | None] = field(default_factory=dict)
    """Branches that were taken out and still have events to settle: how many (None: unknown)."""

    @property
    def clean(self) -> bool:
        """Whether nothing stands in the way."""
        return self.spec is None and self.redis is None and self.workers is None


async def reconcile(
    manifest: Mapping[str, Any],
    *,
    substrate: Substrate,
    connect: Callable[[Pipeline], Awaitable[Server]],
) -> Findings:
    """Brings streams, groups and workers to what the manifest says, as far as can be.

    `connect` finds a pipeline's server and raises Problem when that is not possible. A server that is away does not
    keep the workers from being applied, nor the other way round.
    """
    generation = manifest["metadata"].get("generation", 0)
    pipeline = load(manifest)
    if isinstance(pipeline, Problem):
        return await _hold(manifest, pipeline, connect)
    redis: Problem | None = None
    workers: Problem | None = None
    writes = 0
    healed: tuple[str, ...] = ()
    draining: Mapping[str, int | None] = {}
    ensured: Ensured | None = None
    try:
        ensured = await topology.ensure(await connect(pipeline), pipeline)
    except Exception as error:  # noqa: BLE001  # the next pass tries again
        redis = redis_problem(pipeline, error)
    # The workers of a branch that drains stay. Which these are is known to the server alone.
    if ensured is not None:
        writes, healed, draining = ensured.changes, ensured.healed, ensured.draining
        pipeline = pipeline.leaving(frozenset(draining)).waiting(ensured.growing)
    elif pipeline.spec.on_remove is OnRemove.DRAIN:
        pipeline = pipeline.leaving(None)
    try:
        writes += await substrate.apply(pipeline)
    except Exception as error:  # noqa: BLE001  # the next pass tries again
        workers = workers_problem(pipeline, error)
    return Findings(
        generation,
        pipeline,
        redis=redis,
        workers=workers,
        writes=writes,
        healed=healed,
        draining=draining,
    )


async def _hold(
    manifest: Mapping[str, Any], mistake: Problem, connect: Callable[[Pipeline], Awaitable[Server]]
) -> Findings:
    """Leaves groups and workers as they are; the pilot still scales them by the manifest, as far as it can be read.

    By this manifest and not by the last good one: an operator that starts now knows no other, and should do the same.
    """
    generation = manifest["metadata"].get("generation", 0)
    try:
        pipeline = load_pipeline(manifest).held()
    except ManifestError:
        return Findings(generation, None, spec=mistake)
    redis: Problem | None = None
    try:
        await connect(pipeline)
    except Exception as error:  # noqa: BLE001  # the next pass tries again
        redis = redis_problem(pipeline, error)
    return Findings(generation, pipeline, spec=mistake, redis=redis)


def load(manifest: Mapping[str, Any]) -> Pipeline | Problem:
    """The pipeline of a manifest, or what is wrong with that."""
    try:
        pipeline = load_pipeline(manifest)
    except ManifestError as error:
        return Problem("Invalid", str(error))
    if mistakes := expressions.mistakes(manifest):
        return Problem("Invalid", "\n".join(f"{mistake}; {mistake.remedy}" for mistake in mistakes))
    return pipeline


def redis_problem(pipeline: Pipeline, error: Exception) -> Problem:
    """What an error means that kept the groups from being looked at or made; a refusal is the server's own."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ServerUnavailableError | TimeoutError):
        return topology.unreachable(error)
    log.warning("groups not made", pipeline=str(pipeline), error=str(error) or repr(error))
    return Problem("ServerRefused", f"the streams' groups could not be made: {str(error) or repr(error)}")


def workers_problem(pipeline: Pipeline, error: Exception) -> Problem:
    """What an error means that kept the workers from being applied; a substrate's errors are its own."""
    if isinstance(error, Problem):
        return error
    log.warning("workers not applied", pipeline=str(pipeline), error=str(error) or repr(error))
    return Problem(
        "ApplyFailed", f"the workers could not be applied, will try again: {str(error) or repr(error)}"
    )
