"""The work of an ordered branch between reading and settling: each delivery to its partition's KeyQueues and back.

Only what a slot is free for goes to the slots; the rest waits here, where it can be dropped when its partition goes.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from headgate.streams.errors import NotOwnerError
from headgate.streams.outcome import Kind
from headgate.streams.owner import PartitionOwner
from headgate.worker.failures import unbegun
from headgate.worker.key_queues import KeyQueues, Verdict
from headgate.worker.ownership import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.contract import BranchContract
    from headgate.streams.consumer import Consumer
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.outcome import Delivery, Outcome, Settled
    from headgate.streams.wire import Wires
    from headgate.worker.intake import Intake


class OrderedWork:
    """Begins deliveries as their keys allow.

    `put` hands them to the slots and `withdraw` takes back what those have not begun; `settle` is the settler's,
    `accept` takes claims in, `lose` forgets the lease, `changed` says that there is more to read.
    """

    def __init__(
        self,
        contract: BranchContract,
        keys: PipelineKeys,
        wires: Wires,
        consumers: Sequence[Consumer],
        intake: Intake,
        *,
        put: Callable[[list[Delivery]], None],
        withdraw: Callable[[Callable[[Delivery], bool]], list[Delivery]],
        settle: Callable[[Outcome], None],
        accept: Callable[[list[Delivery]], object],
        lose: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._owners = [
            PartitionOwner(wires, partition, contract, consumer)
            for partition, consumer in zip(keys.all, consumers, strict=True)
        ]
        self.ownership = Ownership(self._owners, contract.claim_after_seconds, self, lose, changed)
        self._consumers = consumers
        self._queues = [KeyQueues() for _ in consumers]
        self._ready: deque[Delivery] = deque()
        self._room = contract.concurrency * (1 if contract.batch is None else contract.batch.max_events)
        self._most_claims = self._room
        self._intake = intake
        self._is_leaving = False
        self._put = put
        self._withdraw = withdraw
        self._settle = settle
        self._accept = accept
        self._lose = lose
        self._changed = changed

    def is_mine(self, partition: int) -> bool:
        """Whether a partition is this worker's."""
        return partition in self.ownership.tokens

    def is_readable(self, partition: int) -> bool:
        """Whether a partition is this worker's, and all that was pending on it is claimed."""
        return self.is_mine(partition) and not self._owners[partition].has_claims

    async def claim(self, partitions: Iterable[int]) -> int:
        """Claims what is pending on partitions; gives how many events.

        Of each partition no more than there are slots at a time: what is claimed counts as tried if this worker dies.
        """
        claimed = 0
        for partition in partitions:
            room = min(self._most_claims - self.holding(partition), self._intake.free)
            if self.is_mine(partition) and self._owners[partition].has_claims and room > 0:
                try:
                    deliveries = await self._owners[partition].claim(room)
                except NotOwnerError:
                    continue  # given up meanwhile
                claimed += len(deliveries)
                self._accept(deliveries)
        return claimed

    def mine(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Those of partitions that are ours, marked with the fencing token; the others stay pending for their owner."""
        tokens = self.ownership.tokens
        kept: list[Delivery] = []
        for delivery in deliveries:
            token = tokens.get(delivery.event.partition)
            if token is not None:
                delivery.event.fencing_token = token
                kept.append(delivery)
        return kept

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Begins deliveries now or when their key's turn comes, or parks them."""
        for delivery in deliveries:
            verdict = self._queues[delivery.event.partition].arrive(delivery)
            if verdict is Verdict.BEGIN:
                self._ready.append(delivery)
            elif verdict is Verdict.PARK:
                self._settle(unbegun(delivery, Kind.PARK))
        self._pump()

    def ended(self, outcome: Outcome) -> None:
        """A handler's outcome is with the settler; what its key has to wait for now is parked right behind it."""
        self._room += 1
        if outcome.kind in (Kind.RETRY, Kind.BACK):
            delivery = outcome.delivery
            for behind in self._queues[delivery.event.partition].retried(delivery):
                self._settle(unbegun(behind, Kind.PARK))
        self._pump()

    def settled(self, outcomes: Sequence[Outcome], settled: Settled | None) -> None:
        """A batch of one partition is settled (None: fenced off); the next of its keys may begin."""
        partition = outcomes[0].delivery.event.partition
        queues = self._queues[partition]
        if settled is not None:
            queues.unblocked(settled.unblocked)
        elif any(outcome.delivery.lease == self._consumers[partition].lease for outcome in outcomes):
            self._lose()
        for outcome in outcomes:
            if (following := queues.settled(outcome.delivery)) is not None:
                self._ready.append(following)
        if partition in self.ownership.giving and not self.holding(partition):
            self.ownership.ring()
        if self._owners[partition].has_claims:
            self._changed()
        self._pump()

    def took(self, partition: int, blocked: Sequence[str]) -> None:
        """A partition may be claimed and read from now on (see `Work`)."""
        self._queues[partition].reset(blocked)

    def drop(self, partition: int) -> None:
        """Nothing more of a partition is begun; what waits stays pending, for its next owner to claim."""
        queues = self._queues[partition]
        dropped = queues.drop()
        unbegun = self._withdraw(lambda delivery: delivery.event.partition == partition)
        self._room += len(unbegun)
        unbegun += [delivery for delivery in self._ready if delivery.event.partition == partition]
        self._ready = deque(each for each in self._ready if each.event.partition != partition)
        for delivery in unbegun:
            queues.settled(delivery)
        self._intake.give([*dropped, *unbegun])

    def holding(self, partition: int) -> int:
        """How many deliveries of a partition are neither settled nor dropped."""
        return len(self._intake.known[partition])

    def forget(self) -> None:
        """The lease is lost: everything that was not begun is another's."""
        self.ownership.forget()
        for partition in range(len(self._queues)):
            self.drop(partition)

    def leave(self, unbegun: Sequence[Delivery]) -> None:
        """Begins nothing more, and gives each partition up when what was begun of it is settled."""
        self._is_leaving = True
        for partition in range(len(self._queues)):
            self.drop(partition)
        self._intake.give(list(unbegun))
        self.ownership.leave()

    def _pump(self) -> None:
        begun: list[Delivery] = []
        now = time.monotonic()
        while self._ready and self._room > 0 and not self._is_leaving:
            # After a freeze this process runs on before it hears that its lease is over: it begins nothing blindly.
            if now >= self._consumers[self._ready[0].event.partition].sure_until:
                self._lose()
                break
            begun.append(self._ready.popleft())
            self._room -= 1
        if begun:
            self._put(begun)
