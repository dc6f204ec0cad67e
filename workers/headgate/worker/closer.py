"""Closing a branch whose handler's target is gone: first the gate, then the events go back to wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headgate.streams.closing import close_branch, reopen_if_moved, shown
from headgate.streams.errors import StreamsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.contract import BranchContract
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.outcome import Outcome
    from headgate.streams.server import Server

log = structlog.get_logger("headgate.worker")
_RETRY_SECONDS = 1.0


class Closer:
    """Closes and reopens one branch."""

    def __init__(
        self,
        server: Server,
        keys: PipelineKeys,
        contract: BranchContract,
        settle: Callable[[Outcome], None],
        broken: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._server = server
        self._keys = keys
        self._branch = contract.branch
        self._target = contract.function if contract.http is None else contract.http.url
        self._settle = settle
        self._broken = broken
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self, outcome: Outcome) -> None:
        """Closes the branch for the reason an outcome gives, and settles the outcome then."""
        task = asyncio.create_task(self._close(outcome), name="close")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._broken)

    async def drain(self) -> None:
        """Returns when every branch that was to be closed is."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def reopen_if_moved(self) -> None:
        """Opens the branch where it was closed for a target of before.

        A worker that still has that one may close it again, until a roll-out has replaced it.
        """
        if await reopen_if_moved(self._server, self._keys, self._branch, self._target):
            log.info("branch.reopened", target=shown(self._target))

    async def _close(self, outcome: Outcome) -> None:
        reason = outcome.detail.decode(errors="replace")
        log.error("branch.closed", reason=reason, target=shown(self._target))
        while True:
            try:
                await close_branch(self._server, self._keys, self._branch, reason, self._target)
                break
            except StreamsError as error:
                # Settled before the gate is shut, the event would come right back.
                log.warning("branch.not_closed", error=str(error), again_in_seconds=_RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)
        self._settle(outcome)
