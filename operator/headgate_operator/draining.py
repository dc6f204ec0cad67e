"""Branches that were taken out of their pipeline and take what had been published before: how many workers that needs.

Their settings are in no manifest any more, so nothing is added to the workers that were there: as many stay as there
are events left, until there are none; then a pass removes the rest (reconcile.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.streams import PipelineMeasurement
    from headgate_operator.flight import Flight
    from headgate_operator.substrates import Substrate, Workers

log = structlog.get_logger()


def needed(current: int, backlog: int | None, *, paused: bool) -> int:
    """Workers for a branch with so many now and so many events left (None: unknown, which holds what is there)."""
    if paused or backlog == 0:
        return 0
    return current if backlog is None else max(1, min(current, backlog))


class Draining:
    """Scales the branches of a pipeline that drain, through `substrate`."""

    def __init__(self, substrate: Substrate) -> None:
        self._substrate = substrate

    async def scale(
        self,
        flight: Flight,
        measurement: PipelineMeasurement | None,
        observed: Mapping[str, Workers] | None,
    ) -> dict[str, int | None]:
        """Asks for the workers that each branch needs; gives the events that each has left (None: unknown)."""
        pipeline = flight.pipeline
        backlogs: dict[str, int | None] = {}
        for branch in sorted(pipeline.draining or ()):
            found = measurement.branches.get(branch) if measurement is not None else None
            backlogs[branch] = found.backlog if found is not None else None
            workers = (observed or {}).get(branch)
            if workers is None:
                continue  # its Deployment was deleted by hand, or is not known yet
            wanted = needed(workers.desired, backlogs[branch], paused=pipeline.spec.paused)
            if wanted == workers.desired:
                continue
            with flight.noting(f"branch {branch}, which drains: cannot scale to {wanted}"):
                holding = found.holding if found is not None else {}
                await self._substrate.scale(pipeline, branch, wanted, holding)
                log.info(
                    "scaled a branch that drains",
                    pipeline=str(pipeline),
                    branch=branch,
                    before=workers.desired,
                    after=wanted,
                    backlog=backlogs[branch],
                )
        return backlogs
