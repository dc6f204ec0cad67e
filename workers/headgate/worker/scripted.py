"""Reading where a partition has an owner or a branch a rate limit: through the read script alone, after a doorbell.

A plain or a blocking read asks nobody: a worker that froze in one would be given an event after its partition changed
hands, and one of many would be given an event that the rate limit does not allow yet.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.streams.errors import NotOwnerError
from headgate.streams.outcome import RETRY_STREAM
from headgate.worker.reader import BATCH, CLOSED, IDLE_SECONDS, standstill
from headgate.worker.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.contract import SharesContract
    from headgate.streams.consumer import Consumer
    from headgate.streams.outcome import Delivery
    from headgate.streams.rate import RateLimit
    from headgate.streams.waiter import Waiter
    from headgate.worker.intake import Intake
    from headgate.worker.ordered import OrderedWork


class ScriptedReader:
    """Reads those of its partitions that are its worker's, as fast as `limit` allows; all and as it can where None."""

    def __init__(
        self,
        consumers: Sequence[Consumer],
        waiter: Waiter,
        intake: Intake,
        accept: Callable[[list[Delivery]], int],
        shares: SharesContract,
        *,
        ordered: OrderedWork | None,
        limit: RateLimit | None,
    ) -> None:
        self.consumers = consumers
        self._waiter = waiter
        self._intake = intake
        self._accept = accept
        self._ordered = ordered
        self._limit = limit
        self._changed = asyncio.Event()
        self._shares = {consumer.partition: Shares(shares) for consumer in consumers}
        self._first = 0
        self._due_ms = -1
        self._held = 0
        self._begun = 0
        self._last_ids: dict[str, bytes] = {}

    @property
    def found_closed(self) -> bool:
        """Whether the last look found the branch closed on one of these partitions."""
        return bool(self._held & CLOSED)

    @property
    def standstill(self) -> str:
        """Why nothing is read, by the last look; empty when events are."""
        return standstill(self._held)

    def changed(self) -> None:
        """There is a partition more to read."""
        self._changed.set()
        self._waiter.wake()

    async def turn(self) -> None:
        """Waits until there is room, reads once, and waits for the next event when there was nothing.

        Raises NotProvisionedError, ServerUnavailableError, LeaseLostError.
        """
        self._changed.clear()
        free = await self._intake.room()
        consumers, ordered = self.consumers, self._ordered
        if ordered is not None:
            if await ordered.claim(each.partition for each in consumers):
                return
            consumers = [each for each in consumers if ordered.is_readable(each.partition)]
        if not consumers:
            self._held = 0
            await self._pause(IDLE_SECONDS)
            return
        if self._limit is not None:
            free, wait_ms = await self._limit.take(min(free, BATCH))
            if not free:
                await self._pause(min(IDLE_SECONDS, wait_ms / 1000))
                return
        self._begun = 0
        taken = await self._sweep(consumers, free)
        if self._limit is not None:
            # Neither what was not there nor what a filter does not want counts.
            await self._limit.give(free - self._begun)
        if not taken:
            await self._wait()

    async def _sweep(self, consumers: Sequence[Consumer], free: int) -> int:
        """One look at every partition, from another one first each time; ends early when there is no room left."""
        count = len(consumers)
        self._due_ms, self._held, self._last_ids = -1, 0, {}
        taken = 0
        for step in range(count):
            if taken >= free:
                break
            consumer = consumers[(self._first + step) % count]
            room = max(1, (free - taken) // (count - step))
            taken += await self._read(consumer, min(room, BATCH))
        self._first += 1
        return taken

    async def _read(self, consumer: Consumer, wanted: int) -> int:
        shares = self._shares[consumer.partition]
        try:
            look = await consumer.read_watched(wanted, shares.turn(wanted))
        except NotOwnerError:
            return 0  # given up since this sweep began
        self._held |= look.held
        if look.due_ms >= 0:
            self._due_ms = look.due_ms if self._due_ms < 0 else min(self._due_ms, look.due_ms)
        for number, (stream, last) in enumerate(zip(consumer.streams, look.last_ids, strict=False), 1):
            # What a gate holds back must not ring; what has waited long enough is found by looking. Nor must a lane of
            # a branch that drains: what comes there is not for it.
            if number == RETRY_STREAM or not look.held & (0, 32, 34, 36)[number]:
                self._last_ids[stream] = last
        if look.deliveries:
            self._begun += self._accept(look.deliveries)
            shares.read(len(look.deliveries))
        return len(look.deliveries)

    async def _wait(self) -> None:
        seconds = IDLE_SECONDS if self._due_ms < 0 else min(IDLE_SECONDS, self._due_ms / 1000)
        if self._changed.is_set():
            return
        if self._last_ids:
            await self._waiter.listen(self._last_ids, int(seconds * 1000))
        else:
            await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not when there is a partition more to read."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
