"""The slots that handle events: `concurrency` tasks that each take one event after another.

A task an event costs 18 microseconds; a task that awaits one handler after another costs half of one, and an async
handler still runs inside a task of its own, so that its time-outs and task groups work. One timer serves every
time-out: it looks over the slots a few times a second instead of setting a timer an event.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from headgate.errors import PermanentError
from headgate.event import InvalidEventError, encode_data
from headgate.handlers.base import RemoteError
from headgate.streams.outcome import Delivery, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.handlers import Handler

_TICK_SECONDS = 0.1
_TURN = 64  # events a slot handles without giving way to the network, when no handler ever waits


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
        self, handler: Handler, concurrency: int, timeout_seconds: float, done: Callable[[Outcome], None]
    ) -> None:
        self._handler = handler
        self._timeout = timeout_seconds
        self._done = done
        self._queue: deque[Delivery] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._slots = [Slot(number) for number in range(concurrency)]
        self._timer: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def busy(self) -> int:
        """Slots that handle an event now."""
        return sum(slot.delivery is not None for slot in self._slots)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The slots' tasks and the timer's; none ends before `stop`."""
        return [task for task in (*(slot.task for slot in self._slots), self._timer) if task is not None]

    def start(self) -> None:
        """Starts the slots."""
        for slot in self._slots:
            slot.task = asyncio.create_task(self._run(slot), name=f"slot-{slot.number}")
        self._timer = asyncio.create_task(self._watch(), name="slot-timer")

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Queues deliveries, in order."""
        self._queue.extend(deliveries)
        self._wake()

    def stop(self) -> list[Delivery]:
        """Begins nothing more; gives back what never was begun."""
        unbegun = list(self._queue)
        self._queue.clear()
        self._stopping = True
        for parked in self._idle:
            parked.cancel()
        return unbegun

    async def drain(self, seconds: float) -> None:
        """After `stop`: lets what is being handled finish, for `seconds` at most, then cancels it."""
        await asyncio.wait([task for slot in self._slots if (task := slot.task)], timeout=seconds)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _wake(self) -> None:
        while self._idle:
            parked = self._idle.pop()
            if not parked.done():
                parked.set_result(None)
                return

    async def _run(self, slot: Slot) -> None:
        queue = self._queue
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

    async def _handle(self, slot: Slot, delivery: Delivery) -> Outcome:
        if delivery.invalid is not None:
            return Outcome(delivery, Kind.DEAD, delivery.invalid.encode(errors="backslashreplace"))
        task = slot.task
        try:
            result: Any = await self._handler(slot.number, delivery.event)
        except asyncio.CancelledError:
            if slot.timed_out:
                return Outcome(delivery, Kind.RETRY, f"timed out after {self._timeout:g} s".encode())
            if task is None or task.cancelling():
                raise
            return Outcome(delivery, Kind.RETRY, b"CancelledError: what the handler awaited was cancelled")
        except (PermanentError, InvalidEventError) as error:
            return Outcome(delivery, Kind.DEAD, _text(error) or b"PermanentError")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a handler raises is its event's outcome
            return Outcome(delivery, Kind.RETRY, _describe(error))
        finally:
            # Also when the handler did not heed it: the next event's handler was not cancelled.
            if slot.timed_out and task is not None:
                slot.timed_out = False
                task.uncancel()
        return Outcome(delivery, Kind.DONE) if result is None else _done(delivery, result)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            for slot in self._slots:
                if slot.delivery is not None and now > slot.deadline and slot.task is not None:
                    slot.deadline = now + self._timeout
                    slot.timed_out = True
                    slot.task.cancel()


def _text(error: BaseException) -> bytes:
    """What an exception says, whatever it says it in."""
    try:
        return str(error).encode(errors="backslashreplace")
    except Exception:  # noqa: BLE001 - its __str__ is the handler's code
        return b""


def _describe(error: BaseException) -> bytes:
    if isinstance(error, RemoteError):
        return _text(error)
    name, said = type(error).__name__.encode(errors="backslashreplace"), _text(error)
    return name + b": " + said if said else name


def _done(delivery: Delivery, result: Any) -> Outcome:
    try:
        return Outcome(delivery, Kind.DONE, encode_data(result))
    except Exception as error:  # noqa: BLE001 - a type, a number too long, a circle
        # No retry mends a result that is no JSON.
        return Outcome(
            delivery, Kind.DEAD, b"the handler's result is nothing JSON can carry: " + _text(error)
        )
