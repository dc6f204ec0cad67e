"""The workers of a test: the real ones, one a branch, as tasks of the test's own event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from headgate.testing.attempts import Attempt, RecordedHandler
from headgate.testing.errors import WorkerBrokenError
from headgate.testing.waiting import NEVER_SECONDS, Expected, VirtualRetries
from headgate.worker.sieve import make_sieve
from headgate.worker.worker import Worker

if TYPE_CHECKING:
    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.streams import Server
    from headgate.testing.clock import Clock
    from headgate.testing.targets import Targets
    from headgate_operator.pipeline import Pipeline

_BATCH_SECONDS = 0.05


@dataclass
class BranchWorker:
    """The worker of one branch."""

    pipeline: Pipeline
    branch: str
    contract: BranchContract
    handler: Handler
    worker: Worker
    expected: Expected
    attempts: list[Attempt] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"branch {self.branch} of {self.pipeline.name}"

    def start(self) -> None:
        """Starts it."""
        self.task = asyncio.create_task(self._run(), name=f"{self}")

    def check(self) -> None:
        """Raises WorkerBrokenError when it ended by itself."""
        if self.task is None or not self.task.done() or self.task.cancelled():
            return
        if (error := self.task.exception()) is not None:
            raise WorkerBrokenError(f"the worker of {self} broke: {error!r}") from error

    async def stop(self) -> None:
        """Stops it: what its handler is at is cancelled. What the worker ran into is left to `check`."""
        if self.task is None:
            return
        self.worker.drain()
        await asyncio.wait([self.task])
        await self.handler.aclose()
        self.handler.close()

    async def _run(self) -> None:
        if await self.worker.start_handler():
            await self.worker.run()


def make_worker(
    server: Server, pipeline: Pipeline, branch: str, targets: Targets, clock: Clock
) -> BranchWorker:
    """The worker of a branch, not started yet. Raises as `Targets.handler` does."""
    contract = _in_a_test(pipeline.contract(branch))
    attempts: list[Attempt] = []
    handler = RecordedHandler(targets.handler(pipeline, branch, contract), attempts, lambda: clock.seconds)
    expected = Expected(clock)
    retries = VirtualRetries(contract.retry, expected)
    worker = Worker(server, contract, handler, f"test-{branch}", make_sieve(contract), retries=retries)
    return BranchWorker(pipeline, branch, contract, handler, worker, expected, attempts)


def _in_a_test(contract: BranchContract) -> BranchContract:
    """The contract without what would wait in real time, and with a lease that outlives any breakpoint."""
    batch, join = contract.batch, contract.join
    return msgspec.structs.replace(
        contract,
        rate_limit=0,
        batch=batch
        and msgspec.structs.replace(batch, max_wait_seconds=min(_BATCH_SECONDS, batch.max_wait_seconds)),
        join=join and msgspec.structs.replace(join, timeout_seconds=NEVER_SECONDS),
        claim_after_seconds=NEVER_SECONDS,
        drain_seconds=0,
    )
