"""A pipeline's streams and consumer groups on its server, as the spec wants them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import structlog

from headgate.contract import Ordering
from headgate.streams import (
    BranchStart,
    Removal,
    ServerUnavailableError,
    ensure_groups,
    remove_pipeline,
    reopen_if_moved,
)
from headgate_operator.api import OnRemove
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.streams import Ensured, Server
    from headgate_operator.pipeline import Pipeline

log = structlog.get_logger()
T = TypeVar("T")

ENSURE_SECONDS = 10.0
REMOVE_SECONDS = 20.0
REMOVE_ATTEMPTS = 3


async def ensure(server: Server, pipeline: Pipeline) -> Ensured:
    """Makes the groups of every branch, paused or not; opens those with a new target.

    Groups of branches that are no more go, at once or when they have drained (`spec.onRemove`).
    Raises Problem when the server does not answer within ENSURE_SECONDS.
    """
    try:
        async with asyncio.timeout(ENSURE_SECONDS):
            ensured = await ensure_groups(
                server, pipeline.keys, _starts(pipeline), pipeline.source, _removal(pipeline)
            )
            await _reopen(server, pipeline)
            return ensured
    except (ServerUnavailableError, TimeoutError) as error:
        raise unreachable(error) from error


def _starts(pipeline: Pipeline) -> list[BranchStart]:
    spec = pipeline.spec
    return [
        BranchStart(
            branch.name,
            branch.start_at,
            paused=spec.paused or branch.paused,
            ordered=branch.ordering is Ordering.KEY,
        )
        for branch in spec.branches
    ]


def _removal(pipeline: Pipeline) -> Removal:
    return Removal(drain=pipeline.spec.on_remove is OnRemove.DRAIN, paused=pipeline.spec.paused)


async def _reopen(server: Server, pipeline: Pipeline) -> None:
    """Opens branches that their last target closed for good, and that have another one now: no worker may be there."""
    for branch in pipeline.spec.branches:
        handler = branch.handler
        if handler.http is not None and await reopen_if_moved(
            server, pipeline.keys, branch.name, handler.http.url
        ):
            log.info("branch reopened", pipeline=str(pipeline), branch=branch.name)


async def answer(server: Server) -> None:
    """Returns when the server answers; raises Problem as `remove` does."""
    await _patiently(server.ping)


async def remove(server: Server, pipeline: Pipeline) -> int:
    """Removes every key of the pipeline; returns how many there were.

    Tries REMOVE_ATTEMPTS times within REMOVE_SECONDS, so that a server that is gone for good holds nobody up; raises
    Problem after that.
    """
    return await _patiently(lambda: remove_pipeline(server, pipeline.keys))


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    deadline = asyncio.get_running_loop().time() + REMOVE_SECONDS
    failure: Exception = TimeoutError(f"no answer within {REMOVE_SECONDS:g} s")
    for attempt in range(1, REMOVE_ATTEMPTS + 1):
        try:
            async with asyncio.timeout_at(deadline):
                return await work()
        except TimeoutError:
            break
        except ServerUnavailableError as error:
            failure = error
        if attempt < REMOVE_ATTEMPTS:
            await asyncio.sleep(attempt)
    raise unreachable(failure) from failure


def unreachable(error: Exception) -> Problem:
    """What a server that does not answer means to the pipeline's owner."""
    return Problem(
        "ServerUnavailable",
        f"the Redis server does not answer: {str(error) or 'timed out'}; check that it runs, and the URL in the Secret:"
        " its host has to be known in the operator's namespace too (service.namespace)",
    )
