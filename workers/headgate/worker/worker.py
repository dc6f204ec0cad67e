"""One worker of one branch: how its parts start, wait for the server, and end.

Losing the server, the lease or the groups never ends a worker: it waits, says so, and goes on with a new lease. What it
held under the old one is another's by then, and the fence keeps it from being settled twice.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from headgate.handlers.breaker import State
from headgate.streams.consumer import Consumer
from headgate.streams.errors import LeaseLostError, NotProvisionedError, StreamsError
from headgate.streams.keys import PipelineKeys
from headgate.streams.rate import RateLimit
from headgate.streams.state import read_value
from headgate.streams.waiter import Waiter
from headgate.streams.wire import Wires
from headgate.values import read_values_by
from headgate.worker.ending import end
from headgate.worker.flow import Flow
from headgate.worker.heart import SILENT_SECONDS, Heart
from headgate.worker.intake import make_intake
from headgate.worker.lease import Lease
from headgate.worker.metrics import WorkerMetrics
from headgate.worker.reader import Reader
from headgate.worker.scripted import ScriptedReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.streams.server import Server
    from headgate.worker.retry import Retries
    from headgate.worker.sieve import Sieve

log = structlog.get_logger("headgate.worker")
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0)
_LAST_WORD_SECONDS = 5.0  # for the server's answers while draining


class Worker:
    """Works on one branch until `drain` is called; `retries` decide what follows a failure, else the contract does."""

    def __init__(
        self,
        server: Server,
        contract: BranchContract,
        handler: Handler,
        name: str,
        sieve: Sieve | None = None,
        *,
        retries: Retries | None = None,
    ) -> None:
        self.contract = contract
        self.ready = False
        self._server = server
        self._handler = handler
        self._keys = PipelineKeys(contract.namespace, contract.pipeline, contract.partitions)
        self._intake = make_intake(contract)
        self.metrics = WorkerMetrics(contract, lambda: self._intake.held, handler)
        self._wires = Wires(server)
        self._consumers = [Consumer(self._wires, partition, contract) for partition in self._keys.all]
        self._lease = Lease(name, self._consumers, self.metrics)
        self._heart = Heart(
            server,
            self._keys,
            contract,
            consumers=self._consumers,
            intake=self._intake,
            metrics=self.metrics,
            lease=self._lease,
            lose=self._forget_lease,
            suspect=self._suspect_all,
            unanswered=self._wires.close,
            look=self._close_silent_waits,
        )
        self._flow = Flow(
            server,
            self._keys,
            contract,
            handler,
            sieve,
            retries=retries,
            wires=self._wires,
            consumers=self._consumers,
            intake=self._intake,
            metrics=self.metrics,
            lose=self._forget_lease,
            claim_more=self._heart.claim_more.set,
            changed=self._on_partitions_changed,
            ended=self._on_ended,
            broken=self._break,
        )
        groups = [[consumer] for consumer in self._consumers] if server.is_cluster else [self._consumers]
        self._waiters = [Waiter(server, group, contract.branch) for group in groups]
        self._readers = [
            self._make_reader(group, waiter) for group, waiter in zip(groups, self._waiters, strict=True)
        ]
        self._suspect: set[Reader | ScriptedReader] = set()
        self._started = False
        self._draining = asyncio.Event()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _make_reader(self, consumers: Sequence[Consumer], waiter: Waiter) -> Reader | ScriptedReader:
        contract, flow = self.contract, self._flow
        if flow.ordered is None and not contract.rate_limit:
            return Reader(consumers, waiter, self._intake, flow.accept, contract.shares)
        limit = RateLimit(self._wires, self._keys.partition(0), contract) if contract.rate_limit else None
        return ScriptedReader(
            consumers, waiter, self._intake, flow.accept, contract.shares, ordered=flow.ordered, limit=limit
        )

    @property
    def answered_at(self) -> float:
        """When the server last answered a heartbeat or an enlisting (monotonic seconds), whatever it said."""
        return self._lease.answered_at

    @property
    def unready(self) -> str:
        """Why no event is taken now; empty when events are."""
        if self._draining.is_set():
            return "draining"
        if not self._started:
            return "the handler is not ready: its target does not listen yet"
        if not self.ready:
            return "no lease: the server is not reached, or has no such branch"
        if standing := [reader.standstill for reader in self._readers if reader.standstill]:
            return standing[0]
        if self._handler.breaker is State.OPEN:
            return "the circuit breaker is open: the target failed again and again"
        return ""

    def drain(self) -> None:
        """Stops reading; `run` returns when what is being handled is settled, or the grace period is over."""
        self._heart.claims = False
        self._draining.set()

    async def start_handler(self) -> bool:
        """Makes the handler ready, however long that takes: alive all the while, not ready; False when drained first.

        Raises what the handler's start does.
        """
        starting = asyncio.create_task(self._handler.start(), name="start")
        draining = asyncio.create_task(self._draining.wait(), name="draining")
        await asyncio.wait({starting, draining}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False

    async def run(self) -> None:
        """Works until drained; raises what no server can cause. Nothing the server does ends it."""
        self._started = True
        read_values_by(partial(read_value, self._server, self._keys))
        flow = self._flow
        flow.runners.start()
        working = [asyncio.create_task(self._read(reader), name="read") for reader in self._readers]
        beat = asyncio.create_task(self._heart.run(flow), name="beat")
        relay = asyncio.create_task(flow.relayer.run(), name="relay")
        ripen = asyncio.create_task(flow.ripener.run(), name="ripen")
        draining = asyncio.create_task(self._draining.wait(), name="draining")
        own = []
        if flow.ordered is not None:
            own = [asyncio.create_task(flow.ordered.ownership.run(), name="own")]
        for task in (beat, relay, ripen, *own, *working, *flow.runners.tasks):
            task.add_done_callback(self._on_ended)
        waited: set[asyncio.Future[Any]] = {draining, self._broken}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        self.ready = False
        self.drain()
        for waiter in self._waiters:
            waiter.close()
        await end((ripen, *working))
        await self._hand_back()
        await flow.runners.drain(self.contract.drain_seconds)
        await end(own)
        await self._finish(beat)
        await end((beat, relay, draining))
        self._wires.close()
        if self._broken.done():
            self._broken.result()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """Ends the worker: this is a bug of ours and not the server's doing, and must be loud."""
        if not self._broken.done():
            self._broken.set_exception(error)

    async def _hand_back(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._flow.hand_back()
        except (StreamsError, TimeoutError) as error:
            log.warning("worker.not_recovered", error=str(error))

    async def _finish(self, beat: asyncio.Task[None]) -> None:
        """Settles what is done and gives the lease back, so that others claim what could not be ended."""
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._flow.drain()
                # One behind the first release would find the lease lost, and forget what is still to be released.
                await end((beat,))
                await self._lease.release()
        except (StreamsError, TimeoutError) as error:
            log.warning(
                "worker.not_released",
                error=str(error) or "timed out",
                claimed_after=self.contract.claim_after_seconds,
            )
        log.info("worker.drained")

    async def _read(self, reader: Reader | ScriptedReader) -> None:
        failures = 0
        while True:
            try:
                await self._enlist()
                if reader in self._suspect:
                    await self._recover(reader)
                await reader.turn()
                if reader.found_closed:
                    await self._flow.reopen_if_moved()
                failures = 0
            except (StreamsError, OSError) as error:
                self.ready = False
                wait = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                log.warning("read.waiting", error=str(error), again_in_seconds=wait)
                failures += 1
                await asyncio.sleep(wait)
                await self._after_failure(reader, error)

    async def _after_failure(self, reader: Reader | ScriptedReader, error: Exception) -> None:
        if isinstance(error, LeaseLostError | NotProvisionedError):
            self._lease.answered()
            self._forget_lease()
            return
        self.metrics.server_failures += 1
        self._suspect.add(reader)
        try:
            await self._server.rediscover()
        except StreamsError as again:
            log.warning("read.not_rediscovered", error=str(again))

    async def _recover(self, reader: Reader | ScriptedReader) -> None:
        """Makes good what a broken connection may have lost: deliveries or claims whose reply never came.

        Only between two turns of their reader, so that what it waits for is not taken for lost.
        """
        ordered = self._flow.ordered
        for consumer in reader.consumers:
            # Until all is claimed a lost claim is made again; what this worker holds beyond it is not its turn yet.
            readable = ordered is None or ordered.is_readable(consumer.partition)
            if consumer.lease and readable:
                await self._flow.recover(consumer)
        self._suspect.discard(reader)

    async def _enlist(self) -> None:
        """Takes a lease where there is none; one name on every partition."""
        is_new = await self._lease.take()
        self.ready = not self._draining.is_set()
        if not is_new:
            return
        # Whoever died before may have left something: the heart's first beat came before there was a lease.
        self._heart.claim_more.set()
        if self._flow.ordered is not None:
            self._flow.ordered.ownership.ring()

    def _forget_lease(self) -> None:
        """What is held can no longer be settled; it is dropped as its outcomes come in (see Settler)."""
        self._lease.forget()
        if self._flow.ordered is not None:
            self._flow.ordered.forget()

    def _suspect_all(self) -> None:
        self._suspect.update(self._readers)

    def _close_silent_waits(self) -> None:
        for waiter in self._waiters:
            waiter.close_if_silent(SILENT_SECONDS)

    def _on_partitions_changed(self) -> None:
        for reader in self._readers:
            if isinstance(reader, ScriptedReader):
                reader.changed()
