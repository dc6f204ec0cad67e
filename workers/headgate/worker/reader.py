"""Reading: by priority through the read script while there is work, by one blocking read while there is none.

Where the script finds more than it may give, a few plain reads follow it: they cost the server a third.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headgate.streams.outcome import NO_TURN
from headgate.worker.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.contract import SharesContract
    from headgate.streams.consumer import Consumer
    from headgate.streams.outcome import Delivery, Turn
    from headgate.streams.waiter import Waiter
    from headgate.worker.intake import Intake

BATCH = 250
IDLE_SECONDS = 1.0
_SCRIPT_EVERY_SECONDS = 0.05  # between two looks of the script at due retries, gate and lease
_WAIT_COUNT = 16
_PLAIN_LEAST = 128  # events a plain read is worth it for; slow handlers have no room for so many
CLOSED = 8  # the bit of a branch that takes nothing
PAUSED = 16  # the bit of one that takes nothing by the manifest's wish
_HELD_DOWN_TO = (0, 0, 2, 6, 0)  # by stream number: the gate's bits of that lane and the lanes above it


def standstill(held: int) -> str:
    """Why a branch of which all this waits takes nothing; empty when it takes some events."""
    if held & CLOSED:
        return "the branch is closed: its target is gone for good"
    return "the branch is paused by its manifest" if held & PAUSED else ""


class Reader:
    """Reads some partitions of one branch: all of them on a single server, one on a cluster."""

    def __init__(
        self,
        consumers: Sequence[Consumer],
        waiter: Waiter,
        intake: Intake,
        accept: Callable[[list[Delivery]], int],
        shares: SharesContract,
    ) -> None:
        self.consumers = consumers
        self._shares = {consumer.partition: Shares(shares) for consumer in consumers}
        self._waiter = waiter
        self._intake = intake
        self._accept = accept
        self._first = 0
        self._due_ms = -1
        self._held = 0
        # By partition: the lowest stream to read plainly, until when.
        self._rush: dict[int, tuple[int, float]] = {}

    @property
    def found_closed(self) -> bool:
        """Whether the last look found the branch closed on one of these partitions."""
        return bool(self._held & CLOSED)

    @property
    def standstill(self) -> str:
        """Why nothing is read, by the last look; empty when events are."""
        return standstill(self._held)

    async def turn(self) -> None:
        """Waits until there is room, reads once, and waits for the next event when there was nothing.

        Raises NotProvisionedError, ServerUnavailableError, LeaseLostError.
        """
        free = await self._intake.room()
        if not await self._sweep(free):
            await self._wait()

    async def _sweep(self, free: int) -> int:
        """One look at every partition, from another one first each time; ends early when there is no room left."""
        count = len(self.consumers)
        self._due_ms, self._held = -1, 0
        taken = 0
        for step in range(count):
            if taken >= free:
                break
            consumer = self.consumers[(self._first + step) % count]
            room = max(1, (free - taken) // (count - step))
            shares, wanted = self._shares[consumer.partition], min(room, BATCH)
            turn = shares.turn(wanted)
            deliveries = [] if turn is not NO_TURN else await self._read_plain(consumer, room)
            deliveries = deliveries or await self._read(consumer, wanted, turn)
            if deliveries:
                shares.read(len(deliveries))
                taken += len(deliveries)
                self._accept(deliveries)
        self._first = (self._first + 1) % count
        return taken

    async def _read(self, consumer: Consumer, wanted: int, turn: Turn) -> list[Delivery]:
        """Reads through the script, and notes whether plain reads may follow."""
        deliveries, due_ms, held = await consumer.read(wanted, turn)
        self._held |= held
        if due_ms >= 0:
            self._due_ms = due_ms if self._due_ms < 0 else min(self._due_ms, due_ms)
        if turn is NO_TURN and len(deliveries) == wanted:
            lowest = deliveries[-1].stream
            if not held & _HELD_DOWN_TO[lowest]:
                seconds = _SCRIPT_EVERY_SECONDS if due_ms < 0 else min(_SCRIPT_EVERY_SECONDS, due_ms / 1000)
                self._rush[consumer.partition] = (lowest, time.monotonic() + seconds)
        return deliveries

    async def _read_plain(self, consumer: Consumer, room: int) -> list[Delivery]:
        """Reads on where the script found more than it was asked for, until it is time for the script again.

        The lanes above the one that had more were empty then; they are read along, so that what is published into
        them meanwhile is not behind. When they have something, or the lane has no more, the script is asked next.
        COUNT is each stream's own: more may come than there is room for, which handlers this fast have soon done.
        """
        lowest, until = self._rush.pop(consumer.partition, (0, 0.0))
        count = min(BATCH, room)
        if not lowest or count < _PLAIN_LEAST or time.monotonic() >= until:
            return []
        deliveries = await consumer.read_plain(lowest, count)
        if len(deliveries) == count and deliveries[0].stream == lowest:
            self._rush[consumer.partition] = (lowest, until)
        return deliveries

    async def _wait(self) -> None:
        if self._held & (CLOSED | PAUSED):
            # A blocking read looks at no gate; whoever opens the branch is content to wait for a second.
            await asyncio.sleep(IDLE_SECONDS)
            return
        looked = time.monotonic()
        block = IDLE_SECONDS if self._due_ms < 0 else min(IDLE_SECONDS, self._due_ms / 1000)
        while True:
            count = max(1, min(_WAIT_COUNT, self._intake.free // len(self.consumers)))
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
