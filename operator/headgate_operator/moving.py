"""A pipeline whose server is another one now: what it leaves behind is told, for nobody else would.

Workers and publishers go to the new server at once. Nothing is carried over: what the old one still has waits there,
for as long as it is kept, until workers are pointed there again (docs/guides/changes.md).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headgate.streams import NotProvisionedError, find_pipeline, measure, read_provisioned
from headgate_operator.events import Notice, Severity

if TYPE_CHECKING:
    from headgate.streams import Server
    from headgate_operator.pipeline import Pipeline

LOOK_SECONDS = 5.0

log = structlog.get_logger()


async def farewell(pipeline: Pipeline, old: Server, new: Server) -> Notice | None:
    """What is to be told when `new` carries the pipeline from now on; None when `old` is the same by another name.

    An old server that is gone for good is a reason to change it, and no error. The new one has to answer within
    LOOK_SECONDS: raises TimeoutError, ServerUnavailableError.
    """
    if await _has(pipeline, new):
        return None
    left = await _left(pipeline, old)
    if left == 0:
        return Notice(
            Severity.NORMAL, "ServerChanged", "on another Redis server; the old one had nothing left", "Move"
        )
    many = "an unknown number of" if left is None else left
    note = (
        f"on another Redis server; {many} unsettled events are left on the old one, and its dead letters: point"
        " spec.redis back until the backlog is 0, or work them off there with"
        " `headgate run FILE --redis-url OLD --until-settled`"
    )
    log.warning("server changed", pipeline=str(pipeline), unsettled_events_left=left)
    return Notice(Severity.WARNING, "ServerChanged", note, "Move")


async def _has(pipeline: Pipeline, server: Server) -> bool:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await find_pipeline(server, pipeline.namespace, pipeline.name)
    except NotProvisionedError:
        return False
    return True


async def _left(pipeline: Pipeline, server: Server) -> int | None:
    """Events that some branch has not settled, of branches on their way out too; None when that cannot be known."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            keys = (await find_pipeline(server, pipeline.namespace, pipeline.name))[0]
            found = await read_provisioned(server, keys, ())
            (measured,) = await measure(server, [(keys, sorted(found.others))])
    except NotProvisionedError:
        return 0
    except Exception:  # noqa: BLE001 - it may be gone, and often is
        return None
    backlogs = [branch.backlog for branch in measured.branches.values()] if measured is not None else [None]
    known = [backlog for backlog in backlogs if backlog is not None]
    return sum(known) if len(known) == len(backlogs) else None
