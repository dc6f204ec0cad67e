"""Handlers written in Python: `module:function`, run on the loop, in threads or in processes of their own.

A function gets an event; one of a branch that wants batches gets a list of events. An async function runs on the
worker's event loop. A plain one runs in a thread of its slot (which nothing can interrupt: on its time-out it is left
to itself, and the event is tried again in another) or in a process of its slot, which a time-out ends for real.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from functools import reduce
from typing import TYPE_CHECKING, Any

from headgate.contract import Executor
from headgate.handlers.base import Handler, HandlerLoadError
from headgate.handlers.process import Child
from headgate.handlers.thread import SlotThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from headgate.event import Event


def load_function(path: str) -> Callable[[Any], Any]:
    """The function `module:attribute` names; raises HandlerLoadError saying which half is wrong."""
    module_name, colon, attribute = path.partition(":")
    if not (colon and module_name and attribute):
        raise HandlerLoadError(f'function: {path!r} is not of the form "module:attribute"')
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise HandlerLoadError(f"function {path!r}: importing {module_name!r} failed: {error!r}") from error
    try:
        function = reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise HandlerLoadError(f"function {path!r}: {module_name!r} has no {attribute!r}") from error
    if not callable(function):
        raise HandlerLoadError(f"function {path!r}: a {type(function).__name__} cannot be called")
    return function


def is_async(function: Callable[[Any], Any]) -> bool:
    """Whether calling it gives something to await."""
    return inspect.iscoroutinefunction(function if inspect.isroutine(function) else type(function).__call__)


def load_python(path: str, executor: Executor, concurrency: int) -> Handler:
    """The handler for a function's path; raises HandlerLoadError."""
    function = load_function(path)
    if is_async(function):
        return LoopHandler(function)
    if executor is Executor.PROCESSES:
        return ProcessHandler(path, concurrency)
    return ThreadHandler(function, concurrency)


class LoopHandler(Handler):
    """An async function, on the worker's own loop."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]]) -> None:
        self._function = function

    def __call__(self, slot: int, event: Event) -> Awaitable[Any]:  # noqa: ARG002 - the loop has room for every slot
        """The function's own coroutine: one more around it would cost an eighth of the event."""
        return self._function(event)

    def handle_batch(self, slot: int, events: Sequence[Event]) -> Awaitable[Any]:  # noqa: ARG002 - as above
        """The function's own coroutine, over a list."""
        return self._function(list(events))


class ThreadHandler(Handler):
    """A plain function in threads, one a slot, started when it is first used and again when one was left behind."""

    def __init__(self, function: Callable[[Any], Any], concurrency: int) -> None:
        self._function = function
        self._threads: list[SlotThread | None] = [None] * concurrency

    def __call__(self, slot: int, event: Event) -> Awaitable[Any]:
        """Runs the function in the slot's thread; cancelling it leaves the thread to itself."""
        return self._call(slot, event)

    def handle_batch(self, slot: int, events: Sequence[Event]) -> Awaitable[Any]:
        """Runs the function in the slot's thread over a list."""
        return self._call(slot, list(events))

    async def _call(self, slot: int, work: Event | list[Event]) -> Any:
        thread = self._threads[slot]
        if thread is None:
            thread = self._threads[slot] = SlotThread(self._function, f"handler-{slot}")
        try:
            return await thread.call(work)
        except asyncio.CancelledError:
            self._threads[slot] = None
            thread.end()
            raise

    def close(self) -> None:
        """Forgets the threads; one that still runs goes on until its function returns or the process ends."""
        for thread in self._threads:
            if thread is not None:
                thread.end()


class ProcessHandler(Handler):
    """A plain function in processes, one a slot, started when the slot is first used and again when it died."""

    def __init__(self, path: str, concurrency: int) -> None:
        self._path = path
        self._children: list[Child | None] = [None] * concurrency

    def __call__(self, slot: int, event: Event) -> Awaitable[Any]:
        """Runs the function in the slot's process; cancelling it kills the process."""
        return self._call(slot, event)

    def handle_batch(self, slot: int, events: Sequence[Event]) -> Awaitable[Any]:
        """Runs the function in the slot's process over a list."""
        return self._call(slot, list(events))

    async def _call(self, slot: int, work: Event | list[Event]) -> Any:
        child = self._children[slot]
        if child is None or not child.alive:
            child = await asyncio.to_thread(Child, self._path)
            self._children[slot] = child
        return await child.call(work)

    def close(self) -> None:
        """Kills the processes."""
        for child in self._children:
            if child is not None:
                child.kill()
