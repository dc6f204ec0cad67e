"""A child process that runs one handler function, one event at a time, and can be killed without harm to others."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from headgate.errors import PermanentError
from headgate.event import InvalidEventError
from headgate.handlers.base import HandlerCrashedError, RemoteError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from headgate.event import Event

# A fork server is started once, clean of this process's threads and loop, and forks quickly from then on.
_CONTEXT = multiprocessing.get_context("forkserver")


class Child:
    """The process; made ready (its module imported) on its first call."""

    def __init__(self, path: str) -> None:
        self._link, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(path, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """False once it died or was killed."""
        return self._process.is_alive()

    async def call(self, event: Event) -> Any:
        """The function's result for an event. Cancelling kills the process.

        Raises PermanentError or RemoteError as the function did, HandlerCrashedError when the process died.
        """
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        descriptor = self._link.fileno()
        loop.add_reader(descriptor, _resolve, readable)
        try:
            try:
                self._link.send(event)
                await readable
            finally:
                # Before the descriptor is closed: another thread may open one of the same number at once.
                loop.remove_reader(descriptor)
            kind, value = self._link.recv()
        except asyncio.CancelledError:
            self.kill()
            raise
        except (EOFError, OSError) as error:
            self._process.join(1)
            code = self._process.exitcode
            how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
            self.kill()
            raise HandlerCrashedError(f"the handler's process ended {how}") from error
        if kind == "result":
            return value
        raise PermanentError(value) if kind == "permanent" else RemoteError(value)

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._link.close()


def _resolve(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _serve(path: str, link: Connection) -> None:
    """The child's whole life: an event in, an outcome out, until the parent is gone."""
    from headgate.handlers.python import load_function  # noqa: PLC0415 - in the child, and against an import cycle

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A parent that was killed leaves a pipe that other children may hold open: watch the parent itself.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    function = load_function(path)
    while True:
        try:
            event = link.recv()
        except EOFError:
            return
        try:
            answer = ("result", function(event))
        except (PermanentError, InvalidEventError) as error:
            answer = ("permanent", str(error))
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            answer = ("error", f"{type(error).__name__}: {error}")
        try:
            link.send(answer)
        except Exception as error:  # noqa: BLE001 - pickle raises what it likes
            # No retry mends it, and what cannot be passed on is no JSON either.
            link.send(("permanent", f"the handler's result cannot be passed between processes: {error!r}"))
