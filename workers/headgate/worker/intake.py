"""How many events a worker holds: enough that no handler waits for the network, no more than it handles soon.

A worker that takes 500 slow jobs keeps them from idle neighbours; one that takes 8 fast ones waits for the server
between them. So it holds what its slots handle in `_AHEAD_SECONDS` at the speed measured, and at least one event, or
one batch, a slot.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.contract import Ordering

if TYPE_CHECKING:
    from headgate.contract import BranchContract
    from headgate.streams.outcome import Delivery

_AHEAD_SECONDS = 0.05
_MOST_AHEAD = 1000
_MOST_CLAIMS = 100  # a call: the server is everybody's
_SMOOTHING = 0.2
_MOST_SIFTED = 16  # times what there is room for is read at most while a filter lets few events through
_AHEAD_OF_KEYS = (
    15  # events a slot: where keys wait for each other, a slot needs many to find one that may begin
)
_AHEAD_OF_RATE_SECONDS = 0.01  # what is read ahead of a rate limit may begin late, and then too much at once


class Intake:
    """Counts what is held; knows each delivery by (stream, entry), a mapping a partition."""

    def __init__(
        self,
        concurrency: int,
        partitions: int,
        batch: int = 1,
        *,
        least_ahead: int = 0,
        most_ahead: int = _MOST_AHEAD,
    ) -> None:
        self._concurrency = concurrency
        self._least = concurrency * batch
        self._least_ahead = min(least_ahead, most_ahead)
        self._most_ahead = most_ahead
        self._ahead = self._least_ahead
        self._limit = self._least + self._ahead
        self._handler_seconds: float | None = None
        self._held = 0
        self._passing = 1.0
        self._room = asyncio.Event()
        self._room.set()
        self.known: tuple[dict[tuple[int, bytes], Delivery], ...] = tuple({} for _ in range(partitions))

    @property
    def held(self) -> int:
        """Events read and not settled."""
        return self._held

    @property
    def free(self) -> int:
        """How many more may be read now; never negative."""
        return max(0, self._limit - self._held)

    def claimable(self, claimed: int) -> int:
        """How many may be claimed from dead workers now, where `claimed` of that are held already.

        No more at a time than the slots handle: each counts as tried when this worker dies too, and an event that ends
        its workers must not take all that they held along. What is read ahead of fast handlers is no obstacle.
        """
        return max(0, min(self._least - claimed, _MOST_CLAIMS, max(self.free, self._ahead)))

    @property
    def _is_roomy(self) -> bool:
        return self._limit - self._held > self._ahead // 4

    async def room(self) -> int:
        """Waits until at least one more may be read; gives how many.

        Ahead of fast handlers it waits for a quarter of what is held ahead, so that few reads bring many events. While
        a filter lets few of them through, more may be read than there is room for.
        """
        while not self._is_roomy:
            self._room.clear()
            await self._room.wait()
        return int((self._limit - self._held) / self._passing)

    def take(self, deliveries: list[Delivery]) -> None:
        """These were read."""
        self._held += len(deliveries)
        for delivery in deliveries:
            self.known[delivery.event.partition][delivery.stream, delivery.entry] = delivery

    def adopt(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Those not held yet. What is held already, under a lease that was lost, goes on under the new one."""
        new: list[Delivery] = []
        for delivery in deliveries:
            held = self.known[delivery.event.partition].get((delivery.stream, delivery.entry))
            if held is None:
                new.append(delivery)
            else:
                held.lease = delivery.lease
        return new

    def give(self, deliveries: list[Delivery]) -> None:
        """These are settled, or another's now."""
        self._held -= len(deliveries)
        for delivery in deliveries:
            self.known[delivery.event.partition].pop((delivery.stream, delivery.entry), None)
        if self._is_roomy:
            self._room.set()

    def sifted(self, read: int, kept: int) -> None:
        """A filter let `kept` of `read` events through. When more pass than before it is believed at once."""
        share = kept / read
        smoothed = self._passing + _SMOOTHING * (share - self._passing)
        self._passing = max(share, smoothed, 1 / _MOST_SIFTED)

    def observe(self, mean_handler_seconds: float) -> None:
        """Adapts to the mean time a handler took in a batch."""
        seconds = self._handler_seconds
        if seconds is None:
            seconds = mean_handler_seconds
        else:
            seconds += _SMOOTHING * (mean_handler_seconds - seconds)
        self._handler_seconds = seconds
        ahead = int(self._concurrency * _AHEAD_SECONDS / max(seconds, 1e-6))
        self._ahead = max(self._least_ahead, min(self._most_ahead, ahead))
        self._limit = self._least + self._ahead
        if self._is_roomy:
            self._room.set()


def make_intake(contract: BranchContract) -> Intake:
    """The intake of a branch's worker.

    Of an ordered branch a worker may hold more than its slots need: nobody else may have those events anyway.
    """
    most = _MOST_AHEAD
    if contract.rate_limit:
        most = min(most, int(contract.rate_limit * _AHEAD_OF_RATE_SECONDS))
    ordered = contract.ordering is Ordering.KEY
    return Intake(
        contract.concurrency,
        contract.partitions,
        1 if contract.batch is None else contract.batch.max_events,
        least_ahead=min(_MOST_AHEAD, _AHEAD_OF_KEYS * contract.concurrency) if ordered else 0,
        most_ahead=most,
    )
