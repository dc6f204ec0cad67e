"""A thread that runs one handler function, one event or batch at a time, and can be left behind when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.event import Event

_Job = tuple["Event | list[Event]", "asyncio.Future[Any]", contextvars.Context]


class SlotThread:
    """The thread. A daemon: one that hangs keeps no worker from ending, as a pool's thread would."""

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def call(self, work: Event | list[Event]) -> asyncio.Future[Any]:
        """The function's result for an event or a batch."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((work, answer, contextvars.copy_context()))
        return answer

    def end(self) -> None:
        """The thread ends when its function returns."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, answer, context = job
            result: Any = None
            failure: BaseException | None = None
            try:
                # In the caller's context, so that what the function logs and traces is about its event.
                result = context.run(self._function, work)
            except StopIteration as error:
                # No future can carry one.
                failure = RuntimeError(f"the handler raised {error!r}")
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(_answer, answer, result, failure)


def _answer(answer: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)
