"""The slots that handle events: `concurrency` tasks that each take one event, or one batch, after another.

A task an event costs 18 microseconds; a task that awaits one handler after another costs half of one, and an async
handler still runs inside a task of its own, so that its time-outs and task groups work. One timer serves every
time-out: it looks over the slots a few times a second instead of setting a timer an event.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from headgate.logs import handled_event
from headgate.streams.outcome import DONE, RETRY, Delivery, Outcome
from headgate.worker.ending import end
from headgate.worker.failures import failure, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.worker.composer import Composer

_TICK_SECONDS = 0.1
_TURN = 64  # events a slot handles without giving way to the network, when no handler ever waits
_PAUSE_SECONDS = 0.2  # between two looks at whether a pause is over, or the worker is to stop


class Slot:
    """One slot: its task, and what it handles since when."""

    __slots__ = ("deadline", "delivery", "number", "task", "timed_out")

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.delivery: Delivery | None = None
        self.deadline = 0.0
        self.timed_out = False


class Runners:
    """Runs a handler over deliveries and hands each outcome to `done`."""

    def __init__(
        self,
        handler: Handler,
        contract: BranchContract,
        composer: Composer,
        done: Callable[[Outcome], None],
    ) -> None:
        self._handler = handler
        self._timeout = contract.timeout_seconds
        self._composer = composer
        self._done = done
        self._batch = contract.batch
        self._queue: deque[Delivery] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._slots = [Slot(number) for number in range(contract.concurrency)]
        self._timer: asyncio.Task[None] | None = None
        self._stopping = False
        # One slot at a time fills a batch; `_arrived` tells it of more, and of the end.
        self._filling = asyncio.Lock()
        self._arrived = asyncio.Event()

    @property
    def busy(self) -> int:
        """Slots that handle something now."""
        return sum(slot.delivery is not None for slot in self._slots)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The slots' tasks and the timer's; none ends before `stop`."""
        return [task for task in (*(slot.task for slot in self._slots), self._timer) if task is not None]

    def start(self) -> None:
        """Starts the slots."""
        run = self._run if self._batch is None else self._run_batches
        for slot in self._slots:
            slot.task = asyncio.create_task(run(slot), name=f"slot-{slot.number}")
        self._timer = asyncio.create_task(self._watch(), name="slot-timer")

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Queues deliveries, in order."""
        self._queue.extend(deliveries)
        self._arrived.set()
        self._wake()

    def stop(self) -> list[Delivery]:
        """Begins nothing more; gives back what never was begun."""
        unbegun = list(self._queue)
        self._queue.clear()
        self._stopping = True
        self._arrived.set()
        for parked in self._idle:
            parked.cancel()
        return unbegun

    def withdraw(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Takes back what is queued, not begun and unwanted."""
        taken = [delivery for delivery in self._queue if unwanted(delivery)]
        if taken:
            kept = [delivery for delivery in self._queue if not unwanted(delivery)]
            self._queue.clear()
            self._queue.extend(kept)
        return taken

    async def drain(self, seconds: float) -> None:
        """After `stop`: lets what is being handled finish, for `seconds` at most, then cancels it."""
        await asyncio.wait([task for slot in self._slots if (task := slot.task)], timeout=seconds)
        await end(self.tasks)

    def _wake(self) -> None:
        while self._idle:
            parked = self._idle.pop()
            if not parked.done():
                parked.set_result(None)
                return

    async def _run(self, slot: Slot) -> None:
        queue, handler = self._queue, self._handler
        loop = asyncio.get_running_loop()
        turn = 0
        while not self._stopping:
            if not queue:
                parked = loop.create_future()
                self._idle.append(parked)
                await parked
                turn = 0
                # Each slot that wakes wakes the next, so that handlers that never wait do not wake slots in vain.
                if len(queue) > 1:
                    self._wake()
                continue
            if handler.paused_until and await self._paused():
                continue
            delivery = queue.popleft()
            began = time.monotonic()
            slot.deadline = began + self._timeout
            slot.delivery = delivery
            try:
                outcome = await self._handle(slot, delivery)
            finally:
                slot.delivery = None
            outcome.busy_us = int((time.monotonic() - began) * 1e6)
            self._done(outcome)
            turn += 1
            if turn >= _TURN:
                turn = 0
                await asyncio.sleep(0)

    async def _run_batches(self, slot: Slot) -> None:
        while not self._stopping:
            async with self._filling:
                batch = await self._fill()
            for delivery in [each for each in batch if each.invalid is not None]:
                batch.remove(delivery)
                self._done(refused(delivery))
            if not batch:
                continue
            began = time.monotonic()
            slot.deadline = began + self._timeout
            slot.delivery = batch[0]
            try:
                outcomes = await self._handle_batch(slot, batch)
            finally:
                slot.delivery = None
            share_us = int((time.monotonic() - began) * 1e6 / len(batch))
            done = self._done
            for outcome in outcomes:
                outcome.busy_us = share_us
                done(outcome)
            await asyncio.sleep(0)

    async def _paused(self) -> bool:
        """Waits a little when what the handler hands events to asked for a pause; True when it did."""
        seconds = self._handler.paused_until - time.monotonic()
        if seconds <= 0:
            return False
        await asyncio.sleep(min(seconds, _PAUSE_SECONDS))
        return True

    async def _fill(self) -> list[Delivery]:
        """The next batch: full, or as full as it got until the first of it had waited for as long as it may."""
        assert self._batch is not None  # noqa: S101 - only slots of a branch with batches come here
        most, patience = self._batch.max_events, self._batch.max_wait_seconds
        loop = asyncio.get_running_loop()
        since: float | None = None
        while not self._stopping:
            now = time.monotonic()
            if self._queue:
                since = since or now
                if len(self._queue) >= most or now >= since + patience:
                    # A pause may have begun while the batch filled; what is still queued can be handed back.
                    if self._handler.paused_until and await self._paused():
                        continue
                    return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            else:
                since = None
            self._arrived.clear()
            timer = None if since is None else loop.call_later(since + patience - now, self._arrived.set)
            await self._arrived.wait()
            if timer is not None:
                timer.cancel()
        return []

    async def _handle(self, slot: Slot, delivery: Delivery) -> Outcome:
        if delivery.invalid is not None:
            return refused(delivery)
        task = slot.task
        try:
            handled_event.set(delivery.event)
            returned: Any = await self._handler(slot.number, delivery.event)
        except asyncio.CancelledError:
            said = self._cancelled(slot)
            if said is None:
                raise
            return Outcome(delivery, RETRY, said)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a handler raises is its event's outcome
            return failure(delivery, error)
        finally:
            # Also when the handler did not heed it: the next event's handler was not cancelled.
            if slot.timed_out and task is not None:
                slot.timed_out = False
                task.uncancel()
        return Outcome(delivery, DONE) if returned is None else self._composer.done(delivery, returned)

    async def _handle_batch(self, slot: Slot, batch: list[Delivery]) -> list[Outcome]:
        task = slot.task
        try:
            returned: Any = await self._handler.handle_batch(slot.number, [each.event for each in batch])
        except asyncio.CancelledError:
            said = self._cancelled(slot)
            if said is None:
                raise
            return [Outcome(each, RETRY, said) for each in batch]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a handler raises is its events' outcome
            return [failure(each, error) for each in batch]
        finally:
            if slot.timed_out and task is not None:
                slot.timed_out = False
                task.uncancel()
        return self._composer.batch_done(batch, returned)

    def _cancelled(self, slot: Slot) -> bytes | None:
        """What a cancelled handler means for its event; None when it is the slot itself that is cancelled."""
        if slot.timed_out:
            return f"timed out after {self._timeout:g} s".encode()
        if slot.task is None or slot.task.cancelling():
            return None
        return b"CancelledError: what the handler awaited was cancelled"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            for slot in self._slots:
                if slot.delivery is not None and now > slot.deadline and slot.task is not None:
                    slot.deadline = now + self._timeout
                    slot.timed_out = True
                    slot.task.cancel()
