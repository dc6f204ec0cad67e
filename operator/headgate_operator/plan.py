"""A dry run: what a pass would change, in sentences, while annotation headgate.dev/dry-run is "true".

Nothing is written meanwhile but the status: the pipeline goes on as it was, and the pilot flies what it was last told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from headgate.streams import measure, read_provisioned
from headgate.streams.settings import FIELDS
from headgate_operator.api import API_VERSION, OnRemove
from headgate_operator.problem import Problem
from headgate_operator.reconcile import Findings, load, redis_problem, workers_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from headgate.streams import Provisioned, Server
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates.kubernetes import KubernetesSubstrate

DRY_RUN = f"{API_VERSION.partition('/')[0]}/dry-run"
NOTHING = "nothing: all is as the spec says"
_MEANT = {
    "dedupeMs": "dedupeWindowSeconds",
    "schema": "schema",
    "durability": "durability",
    "retention": "retention",
}

log = structlog.get_logger()


def is_dry_run(manifest: Mapping[str, Any]) -> bool:
    """Whether the pipeline asks for a plan only."""
    return (manifest["metadata"].get("annotations") or {}).get(DRY_RUN) == "true"


async def plan(
    manifest: Mapping[str, Any],
    *,
    substrate: KubernetesSubstrate,
    visit: Callable[[Pipeline], AbstractAsyncContextManager[Server]],
) -> Findings:
    """What `reconcile` would do, undone: findings with a plan, of the generation that was acted on last.

    `visit` gives the pipeline's server for a look, and raises Problem when that is not possible.
    """
    generation = max(0, (manifest.get("status") or {}).get("observedGeneration", -1))
    loaded = load(manifest)
    if isinstance(loaded, Problem):
        return Findings(generation, None, spec=loaded, plan=("nothing: the spec is invalid",))
    sentences: list[str] = []
    redis = workers = None
    leaving: frozenset[str] | None = None
    try:
        async with visit(loaded) as server:
            found = await read_provisioned(server, loaded.keys, loaded.branch_names)
            there = loaded.keys.with_partitions(max(1, found.partitions))
            (measured,) = await measure(server, [(there, sorted(found.others))])
        backlogs = {name: branch.backlog for name, branch in (measured.branches if measured else {}).items()}
        sentences += _of_server(loaded, found, backlogs)
        leaving = frozenset(name for name, left in backlogs.items() if left != 0)
    except Exception as error:  # noqa: BLE001 - a refusal is the server's own
        redis = redis_problem(loaded, error)
    kept = leaving if loaded.spec.on_remove is OnRemove.DRAIN else frozenset()
    try:
        sentences += await substrate.plan(loaded.leaving(kept))
    except Exception as error:  # noqa: BLE001 - as above
        workers = workers_problem(loaded, error)
    if redis is None and workers is None and not sentences:
        sentences = [NOTHING]
    # No pipeline: what conditions say is about the one that was acted on.
    return Findings(generation, None, redis=redis, workers=workers, plan=tuple(sentences))


def _of_server(pipeline: Pipeline, found: Provisioned, backlogs: Mapping[str, int | None]) -> Iterator[str]:
    if not found.partitions:
        names, partitions = ", ".join(pipeline.branch_names), pipeline.keys.partitions
        yield f"Redis: groups of {names} made on {partitions} partitions"
        return
    yield from _of_source(pipeline, found)
    yield from _of_branches(pipeline, found)
    for name in sorted(found.others):
        left = "an unknown number of" if backlogs.get(name) is None else backlogs[name]
        if pipeline.spec.on_remove is OnRemove.DELETE or left == 0:
            yield f"Redis: groups of branch {name} removed, with {left} unsettled events"
        elif name not in found.draining:
            yield f"Redis: branch {name} drains {left} unsettled events, then goes"


def _of_source(pipeline: Pipeline, found: Provisioned) -> Iterator[str]:
    if found.partitions != pipeline.keys.partitions:
        yield f"Redis: spec.source.partitions {found.partitions} -> {pipeline.keys.partitions}"
    for field, before, after in zip(FIELDS, found.fields, pipeline.source.to_fields(), strict=True):
        if before != after:
            yield f"Redis: spec.source.{_MEANT[field]} changed"


def _of_branches(pipeline: Pipeline, found: Provisioned) -> Iterator[str]:
    for branch in pipeline.spec.branches:
        if branch.name in found.missing:
            yield f"Redis: groups of branch {branch.name} made, from {branch.start_at} on"
            continue
        if branch.name in found.draining:
            yield f"Redis: branch {branch.name} drains no longer and goes on where it was"
        is_paused = pipeline.spec.paused or branch.paused
        if is_paused != (branch.name in found.paused):
            yield f"Redis: branch {branch.name} {'paused' if is_paused else 'resumed'}"
