"""One worker of one branch: a lease, readers, slots, settlers and a heartbeat, and how they start and end.

Losing the server, the lease or the groups never ends a worker: it waits, says so, and goes on with a new lease. What it
held under the old one is another's by then, and the fence keeps it from being settled twice.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

import structlog

from headgate.contract import Ordering
from headgate.streams.consumer import Consumer
from headgate.streams.errors import LeaseLostError, NotProvisionedError, StreamsError
from headgate.streams.keys import PipelineKeys
from headgate.streams.outcome import BACK, DONE, FILTERED, RETRY, Outcome
from headgate.streams.owner import unpark
from headgate.streams.rate import RateLimit
from headgate.streams.sweep import sweep
from headgate.streams.waiter import Waiter
from headgate.streams.wire import Wires
from headgate.worker.closer import Closer
from headgate.worker.composer import Composer
from headgate.worker.ending import end
from headgate.worker.intake import make_intake
from headgate.worker.metrics import WorkerMetrics
from headgate.worker.ordered import OrderedWork
from headgate.worker.reader import Reader
from headgate.worker.relayer import Relayer
from headgate.worker.retry import Retries
from headgate.worker.ripener import Ripener
from headgate.worker.runners import Runners
from headgate.worker.scripted import ScriptedReader
from headgate.worker.settler import Settler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.streams.outcome import Delivery, Settled
    from headgate.streams.server import Server
    from headgate.worker.sieve import Sieve

log = structlog.get_logger("headgate.worker")
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0)
_SILENT_SECONDS = 10.0  # without an answer: the connection is dead, whatever TCP says
_LAST_WORD_SECONDS = 5.0  # for the server's answers while draining
_SWEEP_EVERY = 3  # heartbeats


class Worker:
    """Works on one branch until `drain` is called."""

    def __init__(
        self,
        server: Server,
        contract: BranchContract,
        handler: Handler,
        name: str,
        sieve: Sieve | None = None,
    ) -> None:
        self.contract = contract
        self.ready = False
        self.answered_at = time.monotonic()
        """When the server last answered a heartbeat or an enlisting (monotonic seconds), whatever it said."""
        self._server = server
        self._handler = handler
        self._sieve = sieve
        self._retries = Retries(contract.retry)
        self._name = name
        self._keys = PipelineKeys(contract.namespace, contract.pipeline, contract.partitions)
        self._intake = make_intake(contract)
        self.metrics = WorkerMetrics(contract, lambda: self._intake.held, handler)
        self._wires = Wires(server)
        self._consumers = [Consumer(self._wires, partition, contract) for partition in self._keys.all]
        self._settlers = [Settler(consumer, self._on_settled, self._break) for consumer in self._consumers]
        self._runners = Runners(handler, contract, Composer(contract), self._on_outcome)
        self._relayer = Relayer(server, self._keys)
        self._ripener = Ripener(self._consumers)
        self._closer = Closer(server, self._keys, contract, self._end, self._on_ended)
        groups = [[consumer] for consumer in self._consumers] if server.is_cluster else [self._consumers]
        self._waiters = [Waiter(server, group, contract.branch) for group in groups]
        self._ordered = self._order() if contract.ordering is Ordering.KEY else None
        self._readers = [
            self._make_reader(group, waiter) for group, waiter in zip(groups, self._waiters, strict=True)
        ]
        self._suspect: set[Reader | ScriptedReader] = set()
        # What was claimed from dead workers and is not settled: one of it may have ended them.
        self._claimed: set[Delivery] = set()
        self._claim_more = asyncio.Event()
        self._started = False
        self._draining = asyncio.Event()
        self._enlisting = asyncio.Lock()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _order(self) -> OrderedWork:
        return OrderedWork(
            self.contract,
            self._keys,
            self._wires,
            self._consumers,
            self._intake,
            put=self._runners.put,
            withdraw=self._runners.withdraw,
            settle=self._settle,
            accept=self._accept_new,
            lose=self._forget_lease,
            changed=self._on_partitions_changed,
        )

    def _make_reader(self, consumers: Sequence[Consumer], waiter: Waiter) -> Reader | ScriptedReader:
        contract, ordered = self.contract, self._ordered
        if ordered is None and not contract.rate_limit:
            return Reader(consumers, waiter, self._intake, self._accept)
        limit = RateLimit(self._wires, self._keys.partition(0), contract) if contract.rate_limit else None
        return ScriptedReader(consumers, waiter, self._intake, self._accept, ordered=ordered, limit=limit)

    @property
    def unready(self) -> str:
        """Why no event is taken now; empty when events are."""
        if self._draining.is_set():
            return "draining"
        if not self._started:
            return "the handler is not ready: its target does not listen yet"
        if not self.ready:
            return "no lease: the server is not reached, or has no such branch"
        if any(reader.found_closed for reader in self._readers):
            return "the branch is closed: its target is gone for good"
        if getattr(self._handler, "state", "") == "open":
            return "the circuit breaker is open: the target failed again and again"
        return ""

    def drain(self) -> None:
        """Stops reading; `run` returns when what is being handled is settled, or the grace period is over."""
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
        self._runners.start()
        working = [asyncio.create_task(self._read(reader), name="read") for reader in self._readers]
        beat = asyncio.create_task(self._beat(), name="beat")
        relay = asyncio.create_task(self._relayer.run(), name="relay")
        ripen = asyncio.create_task(self._ripener.run(), name="ripen")
        draining = asyncio.create_task(self._draining.wait(), name="draining")
        own = []
        if self._ordered is not None:
            own = [asyncio.create_task(self._ordered.ownership.run(), name="own")]
        for task in (beat, relay, ripen, *own, *working, *self._runners.tasks):
            task.add_done_callback(self._on_ended)
        waited: set[asyncio.Future[Any]] = {draining, self._broken}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        self.ready = False
        self._draining.set()
        for waiter in self._waiters:
            waiter.close()
        await end((ripen, *working))
        await self._hand_back(self._runners.stop())
        await self._runners.drain(self.contract.drain_seconds)
        await end(own)
        await self._finish()
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

    async def _hand_back(self, unbegun: list[Delivery]) -> None:
        """Gives what never was begun to others at once, and what a read that was broken off was given meanwhile.

        Of an ordered branch it stays pending, in its place, for the next owner of its partition to claim.
        """
        if self._ordered is not None:
            self._ordered.leave(unbegun)
            return
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                for consumer in self._consumers:
                    if consumer.lease:
                        lost = await consumer.recover(self._intake.known[consumer.partition])
                        self._intake.take(lost)
                        unbegun += lost
        except (StreamsError, TimeoutError) as error:
            log.warning("worker.not_recovered", error=str(error))
        for delivery in unbegun:
            self._settle(Outcome(delivery, BACK))
        log.info("worker.handed_back", events=len(unbegun))

    async def _finish(self) -> None:
        """Settles what is done and gives the lease back, so that others claim what could not be ended."""
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._closer.drain()
                for settler in self._settlers:
                    await settler.drain()
                if self._ordered is not None:
                    await self._ordered.ownership.finish()
                for consumer in self._consumers:
                    await consumer.release()
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
                    await self._closer.reopen_if_moved()
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
            self.answered_at = time.monotonic()
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
        for consumer in reader.consumers:
            # Until all is claimed a lost claim is made again; what this worker holds beyond it is not its turn yet.
            readable = self._ordered is None or self._ordered.is_readable(consumer.partition)
            if consumer.lease and readable:
                self._accept_new(await consumer.recover(self._intake.known[consumer.partition]))
        self._suspect.discard(reader)

    async def _enlist(self) -> None:
        """Takes a lease where there is none; one name on every partition."""
        async with self._enlisting:
            if all(consumer.lease for consumer in self._consumers):
                self.ready = not self._draining.is_set()
                return
            lease = f"{self._name}.{secrets.token_hex(3)}"
            for consumer in self._consumers:
                await consumer.register(lease)
            self.ready = not self._draining.is_set()
            self.answered_at = time.monotonic()
            log.info("worker.enlisted", consumer=lease)
            if self._ordered is not None:
                self._ordered.ownership.ring()

    @property
    def _lease(self) -> str:
        return self._consumers[0].lease

    def _forget_lease(self) -> None:
        """What is held can no longer be settled; it is dropped as its outcomes come in (see Settler)."""
        self.metrics.leases_lost += any(consumer.lease for consumer in self._consumers)
        for consumer in self._consumers:
            consumer.lease = ""
        if self._ordered is not None:
            self._ordered.forget()

    def _on_partitions_changed(self) -> None:
        for reader in self._readers:
            if isinstance(reader, ScriptedReader):
                reader.changed()

    async def _beat(self) -> None:
        """Heartbeats on every partition, three in the time that makes a consumer dead; sweeps now and then.

        One more comes as soon as all is settled that the last one claimed: there may be more to claim.
        """
        every = self.contract.claim_after_seconds / 3
        beats = 0
        while True:
            is_for_claims = self._claim_more.is_set()
            self._claim_more.clear()
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    await self._heartbeat()
                    beats += not is_for_claims
                    if beats % _SWEEP_EVERY == 0 and not is_for_claims:
                        await self._sweep()
                        self._relayer.ring()
            except (LeaseLostError, NotProvisionedError) as error:
                self.answered_at = time.monotonic()
                log.warning("worker.lease_lost", error=str(error), held=self._intake.held)
                self._forget_lease()
            except TimeoutError:
                self.metrics.server_failures += 1
                log.warning("beat.unanswered", seconds=_SILENT_SECONDS)
                self._suspect.update(self._readers)
                self._wires.close()
            except (StreamsError, OSError) as error:
                self.metrics.server_failures += 1
                log.warning("beat.unavailable", error=str(error))
                self._suspect.update(self._readers)
            for waiter in self._waiters:
                waiter.close_if_silent(_SILENT_SECONDS)
            try:
                async with asyncio.timeout(every):
                    await self._claim_more.wait()
            except TimeoutError:
                pass

    async def _sweep(self) -> None:
        swept = await sweep(self._server, self._keys, self.contract.join)
        if swept.lost or swept.dropped:
            log.warning("sweep.lost", unsettled_events=swept.lost, dead_letters=swept.dropped)
        if self._ordered is None and (freed := await unpark(self._server, self._keys, self.contract.branch)):
            log.info("sweep.unparked", events=freed)

    async def _heartbeat(self) -> None:
        for consumer in self._consumers:
            while consumer.lease:
                # What the dead held of an ordered branch goes to whoever takes their partitions, in order.
                none = self._draining.is_set() or self._ordered is not None
                claims = 0 if none else self._intake.claimable(len(self._claimed))
                claimed = await consumer.beat(claims)
                if claimed:
                    self.metrics.claimed += len(claimed)
                    log.info("worker.claimed", events=len(claimed), partition=consumer.partition)
                    self._claimed.update(self._accept_new(claimed))
                self.answered_at = time.monotonic()
                if not claimed or len(claimed) < claims:
                    break

    def _accept(self, deliveries: list[Delivery]) -> int:
        """Takes deliveries in; gives how many of them are to be handled."""
        if self._ordered is not None:
            deliveries = self._ordered.mine(deliveries)
        self._intake.take(deliveries)
        if self._sieve is not None and deliveries:
            read = len(deliveries)
            deliveries, filtered = self._sieve.sift(deliveries)
            self._intake.sifted(read, len(deliveries))
            for delivery in filtered:
                self._settle(Outcome(delivery, FILTERED))
        if self._ordered is None:
            self._runners.put(deliveries)
        else:
            self._ordered.begin(deliveries)
        return len(deliveries)

    def _accept_new(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Accepts claims and recovered deliveries, which may meet each other, or have killed worker after worker.

        Gives those that were not held yet.
        """
        new = self._intake.adopt(deliveries)
        for delivery in new:
            attempt = delivery.event.attempt
            if attempt > self.contract.retry.max_attempts:
                delivery.invalid = (
                    f"delivered {attempt} times and never settled: it may end the workers it is given to"
                )
        self._accept(new)
        return new

    def _on_outcome(self, outcome: Outcome) -> None:
        if outcome.kind is not DONE:
            if outcome.kind is BACK:
                self._closer.close(outcome)
                return
            self._retries.complete(outcome)
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        """What becomes of an event that a handler was given is known."""
        self._settlers[outcome.delivery.event.partition].add(outcome)
        if self._ordered is not None:
            self._ordered.ended(outcome)

    def _settle(self, outcome: Outcome) -> None:
        self._settlers[outcome.delivery.event.partition].add(outcome)

    def _on_settled(self, outcomes: Sequence[Outcome], settled: Settled | None) -> None:
        if settled is not None and settled.outboxed:
            self.metrics.outboxed += settled.outboxed
            self._relayer.ring()
        for outcome in outcomes:
            if outcome.kind is RETRY:
                self._ripener.expect(outcome.delivery.event.partition, outcome.delay_ms)
        self.metrics.count(outcomes, settled is not None)
        self._intake.give([outcome.delivery for outcome in outcomes])
        if self._claimed:
            self._claimed.difference_update([outcome.delivery for outcome in outcomes])
            if not self._claimed:
                self._claim_more.set()
        handled = outcomes
        if self._sieve is not None:
            # What was filtered out took no time, which says nothing of the handler.
            handled = [outcome for outcome in outcomes if outcome.kind is not FILTERED]
        if handled:
            self._intake.observe(sum(outcome.busy_us for outcome in handled) / 1e6 / len(handled))
        if self._ordered is not None:
            self._ordered.settled(outcomes, settled)
        elif settled is None and any(each.delivery.lease == self._lease for each in outcomes):
            # What was refused, but is still pending under this lease, would be so for as long as the lease lasts.
            self._forget_lease()
