"""Reading: by priority through the read script while there is work, by one blocking read while there is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.streams.consumer import Consumer
    from headgate.streams.outcome import Delivery
    from headgate.streams.waiter import Waiter
    from headgate.worker.intake import Intake

BATCH = 250
_SHARE_EVERY = 16  # reads; then the lower lanes get their part first, so that they never starve
_IDLE_SECONDS = 1.0
_SCRIPT_EVERY_SECONDS = 0.05  # while waiting: how often the script looks for due retries and at the gate
_WAIT_COUNT = 16


class Reader:
    """Reads some partitions of one branch: all of them on a single server, one on a cluster."""

    def __init__(
        self,
        consumers: Sequence[Consumer],
        waiter: Waiter,
        intake: Intake,
        accept: Callable[[list[Delivery]], None],
    ) -> None:
        self._consumers = consumers
        self._waiter = waiter
        self._intake = intake
        self._accept = accept
        self._turn = 0
        self._first = 0
        self._due_ms = -1
        self._held = 0

    async def turn(self) -> None:
        """Waits until there is room, reads once, and waits for the next event when there was nothing.

        Raises NotProvisionedError, ServerUnavailableError, LeaseLostError.
        """
        free = await self._intake.room()
        if not await self._sweep(free):
            await self._wait()

    async def _sweep(self, free: int) -> int:
        """One look at every partition, from another one first each time; ends early when there is no room left."""
        self._turn += 1
        share = self._turn % _SHARE_EVERY == 0
        count = len(self._consumers)
        self._due_ms, self._held = -1, 0
        taken = 0
        for step in range(count):
            room = min(free - taken, BATCH)
            if room <= 0:
                break
            consumer = self._consumers[(self._first + step) % count]
            wanted = max(1, room // (count - step))
            deliveries, due_ms, held = await consumer.read(wanted, share=share)
            self._held |= held
            if due_ms >= 0:
                self._due_ms = due_ms if self._due_ms < 0 else min(self._due_ms, due_ms)
            if deliveries:
                taken += len(deliveries)
                self._accept(deliveries)
        self._first = (self._first + 1) % count
        return taken

    async def _wait(self) -> None:
        looked = time.monotonic()
        block = _IDLE_SECONDS if self._due_ms < 0 else min(_IDLE_SECONDS, self._due_ms / 1000)
        while True:
            count = max(1, min(_WAIT_COUNT, self._intake.free // len(self._consumers)))
            found = await self._waiter.wait(count, int(block * 1000), self._held)
            if not found:
                return
            full = False
            for _, deliveries in found:
                self._accept(deliveries)
                full = full or len(deliveries) >= count
            if (
                (full and count > 1)
                or not self._intake.free
                or time.monotonic() - looked > _SCRIPT_EVERY_SECONDS
            ):
                return
