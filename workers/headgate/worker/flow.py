"""The way of an event through a worker: from what was read or claimed over the slots to what is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headgate.contract import Ordering
from headgate.streams.outcome import BACK, DEAD, DONE, EXPIRED, FILTERED, RETRY, Outcome
from headgate.worker.closer import Closer
from headgate.worker.composer import Composer
from headgate.worker.failures import unbegun
from headgate.worker.ordered import OrderedWork
from headgate.worker.relayer import Relayer
from headgate.worker.retry import Retries
from headgate.worker.ripener import Ripener
from headgate.worker.runners import Runners
from headgate.worker.settler import Settler

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.streams.consumer import Consumer
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.outcome import Delivery, Settled
    from headgate.streams.server import Server
    from headgate.streams.wire import Wires
    from headgate.worker.intake import Intake
    from headgate.worker.metrics import WorkerMetrics
    from headgate.worker.sieve import Sieve

log = structlog.get_logger("headgate.worker")
_UNHANDLED = frozenset((FILTERED, EXPIRED))


class Flow:
    """Takes deliveries in and settles them.

    `lose` forgets the lease, `claim_more` says that what was claimed is settled, `changed` that other partitions may
    be read, `ended` hears of tasks that end and `broken` of errors that must end the worker.
    """

    def __init__(
        self,
        server: Server,
        keys: PipelineKeys,
        contract: BranchContract,
        handler: Handler,
        sieve: Sieve | None,
        *,
        retries: Retries | None,
        wires: Wires,
        consumers: Sequence[Consumer],
        intake: Intake,
        metrics: WorkerMetrics,
        lose: Callable[[], None],
        claim_more: Callable[[], None],
        changed: Callable[[], None],
        ended: Callable[[asyncio.Task[None]], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._contract = contract
        self._consumers = consumers
        self._intake = intake
        self._metrics = metrics
        self._sieve = sieve
        self._is_all_handled = sieve is None
        self._lose = lose
        self._claim_more = claim_more
        self._retries = retries or Retries(contract.retry)
        self._settlers = [Settler(consumer, self._on_settled, broken) for consumer in consumers]
        self._closer = Closer(server, keys, contract, self._end, ended)
        self.runners = Runners(handler, contract, Composer(contract), self._on_outcome)
        self.relayer = Relayer(server, keys)
        self.ripener = Ripener(consumers)
        self.claimed: set[Delivery] = set()
        """What was claimed from dead workers and is not settled: one of it may have ended them."""
        self.ordered: OrderedWork | None = None
        if contract.ordering is Ordering.KEY:
            self.ordered = OrderedWork(
                contract,
                keys,
                wires,
                consumers,
                intake,
                put=self.runners.put,
                withdraw=self.runners.withdraw,
                settle=self.settle,
                accept=self.accept_new,
                lose=lose,
                changed=changed,
            )

    def accept(self, deliveries: list[Delivery]) -> int:
        """Takes deliveries in; gives how many of them are to be handled."""
        if self.ordered is not None:
            deliveries = self.ordered.mine(deliveries)
        self._intake.take(deliveries)
        if self._sieve is not None and deliveries:
            read = len(deliveries)
            deliveries, filtered = self._sieve.sift(deliveries)
            self._intake.sifted(read, len(deliveries))
            for delivery in filtered:
                self.settle(Outcome(delivery, FILTERED))
        if any(delivery.expired is not None for delivery in deliveries):
            deliveries = self._give_up(deliveries)
        if self.ordered is None:
            self.runners.put(deliveries)
        else:
            self.ordered.begin(deliveries)
        return len(deliveries)

    def _give_up(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Settles those that expired, whatever their key waits for: none of them is handled. Gives the others."""
        self._is_all_handled = False
        expired = [each for each in deliveries if each.expired is not None and each.invalid is None]
        for delivery in expired:
            self.settle(Outcome(delivery, EXPIRED, (delivery.expired or "").encode()))
        if expired:
            log.warning("events.given_up", events=len(expired), first=expired[0].expired)
        return [each for each in deliveries if each.expired is None or each.invalid is not None]

    def accept_new(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Accepts claims and recovered deliveries, which may meet each other, or have killed worker after worker.

        Gives those that were not held yet.
        """
        new = self._intake.adopt(deliveries)
        self._refuse_spent(new)
        self.accept(new)
        return new

    def _refuse_spent(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            attempt = delivery.event.attempt
            if attempt > self._contract.retry.max_attempts:
                delivery.invalid = (
                    f"delivered {attempt} times and never settled: it may end the workers it is given to"
                )

    def settle(self, outcome: Outcome) -> None:
        """Settles what no handler was given."""
        if outcome.kind is DEAD:
            self._retries.complete(outcome)  # says so
        self._settlers[outcome.delivery.event.partition].add(outcome)

    async def recover(self, consumer: Consumer) -> None:
        """Makes good what a broken connection may have lost. Raises StreamsError."""
        self.accept_new(await consumer.recover(self._intake.known[consumer.partition]))

    async def reopen_if_moved(self) -> None:
        """Opens the branch where it was closed for a target of before. Raises StreamsError."""
        await self._closer.reopen_if_moved()

    async def hand_back(self) -> None:
        """Begins nothing more; gives what never was begun to others at once, also what a broken read was given.

        What no handler may be given becomes a dead letter instead, as it would have here. Of an ordered branch it all
        stays pending, in its place, for the next owner of its partition to claim. Raises StreamsError when
        the server does not say what was given; what is known to be unbegun is handed back then too.
        """
        left = self.runners.stop()
        if self.ordered is not None:
            self.ordered.leave(left)
            return
        try:
            for consumer in self._consumers:
                if consumer.lease:
                    lost = await consumer.recover(self._intake.known[consumer.partition])
                    self._intake.take(lost)
                    self._refuse_spent(lost)
                    left += lost
        finally:
            for delivery in left:
                self.settle(unbegun(delivery, BACK))
            log.info("worker.handed_back", events=len(left))

    async def drain(self) -> None:
        """Returns when everything is settled. Raises StreamsError."""
        await self._closer.drain()
        for settler in self._settlers:
            await settler.drain()
        if self.ordered is not None:
            await self.ordered.ownership.finish()

    def _on_outcome(self, outcome: Outcome) -> None:
        if outcome.kind is not DONE:
            if outcome.kind is BACK:
                self._closer.close(outcome)
                return
            self._retries.complete(outcome)
        # As _end does: a call less for each event.
        self._settlers[outcome.delivery.event.partition].add(outcome)
        if self.ordered is not None:
            self.ordered.ended(outcome)

    def _end(self, outcome: Outcome) -> None:
        """What becomes of an event that a handler was given is known."""
        self._settlers[outcome.delivery.event.partition].add(outcome)
        if self.ordered is not None:
            self.ordered.ended(outcome)

    def _on_settled(self, outcomes: Sequence[Outcome], settled: Settled | None) -> None:
        if settled is not None and settled.outboxed:
            self._metrics.outboxed += settled.outboxed
            self.relayer.ring()
        for outcome in outcomes:
            if outcome.kind is RETRY:
                self.ripener.expect(outcome.delivery.event.partition, outcome.delay_ms)
        self._metrics.count(outcomes, settled is not None)
        self._intake.give([outcome.delivery for outcome in outcomes])
        if self.claimed:
            self.claimed.difference_update([outcome.delivery for outcome in outcomes])
            if not self.claimed:
                self._claim_more()
        handled = outcomes
        if not self._is_all_handled:
            # What was filtered out or given up took no time, which says nothing of the handler.
            handled = [outcome for outcome in outcomes if outcome.kind not in _UNHANDLED]
        if handled:
            self._intake.observe(sum(outcome.busy_us for outcome in handled) / 1e6 / len(handled))
        if self.ordered is not None:
            self.ordered.settled(outcomes, settled)
        elif settled is None and any(each.delivery.lease == self._consumers[0].lease for each in outcomes):
            # What was refused, but is still pending under this lease, would be so for as long as the lease lasts.
            self._lose()
