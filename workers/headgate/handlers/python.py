"""Handlers written in Python: `module:function`, run on the loop, in threads or in processes of their own.

An async function runs on the worker's event loop. A plain one runs in a thread (which nothing can interrupt: on its
time-out the event is retried while the thread goes on) or in a process of its slot, which a time-out ends for real.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import TYPE_CHECKING, Any

from headgate.contract import Executor
from headgate.handlers.base import Handler, HandlerLoadError
from headgate.handlers.process import Child

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.event import Event


def load_function(path: str) -> Callable[[Event], Any]:
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


def load_handler(path: str, executor: Executor, concurrency: int) -> Handler:
    """The handler for a function's path; raises HandlerLoadError."""
    function = load_function(path)
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(called):
        return LoopHandler(function)
    if executor is Executor.PROCESSES:
        return ProcessHandler(path, concurrency)
    return ThreadHandler(function, concurrency)


class LoopHandler:
    """An async function, on the worker's own loop."""

    def __init__(self, function: Callable[[Event], Awaitable[Any]]) -> None:
        self._function = function

    async def __call__(self, slot: int, event: Event) -> Any:  # noqa: ARG002 - the loop has room for every slot
        """Awaits the function."""
        return await self._function(event)

    def close(self) -> None:
        """Nothing to end."""


class ThreadHandler:
    """A plain function in a pool of threads, one a slot."""

    def __init__(self, function: Callable[[Event], Any], concurrency: int) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="handler")

    async def __call__(self, slot: int, event: Event) -> Any:  # noqa: ARG002 - any thread will do
        """Runs the function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._function, event)

    def close(self) -> None:
        """Forgets the threads; one that still runs goes on until its function returns."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class ProcessHandler:
    """A plain function in processes, one a slot, started when the slot is first used and again when it died."""

    def __init__(self, path: str, concurrency: int) -> None:
        self._path = path
        self._children: list[Child | None] = [None] * concurrency

    async def __call__(self, slot: int, event: Event) -> Any:
        """Runs the function in the slot's process; cancelling it kills the process."""
        child = self._children[slot]
        if child is None or not child.alive:
            child = await asyncio.to_thread(Child, self._path)
            self._children[slot] = child
        return await child.call(event)

    def close(self) -> None:
        """Kills the processes."""
        for child in self._children:
            if child is not None:
                child.kill()
