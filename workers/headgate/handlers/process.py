"""A child process that runs one handler function, one event or batch at a time.

It can be killed without harm to others. What a handler raises may not survive the way between processes (many
exceptions cannot be unpickled), so each becomes a `_Failure` on the way, and one of ours again here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from headgate.errors import PermanentError, RetryLaterError, TargetGoneError
from headgate.event import InvalidEventError
from headgate.handlers import link
from headgate.handlers.base import HandlerCrashedError, RemoteError
from headgate.logs import configure_logging, handled_event
from headgate.tracing import current_traceparent, handled_under

if TYPE_CHECKING:
    import socket
    from multiprocessing.process import BaseProcess

    from headgate.event import Event

# A fork server is started once, clean of this process's threads and loop, and forks quickly from then on.
_CONTEXT = multiprocessing.get_context("forkserver")


class _Failure(NamedTuple):
    """What a handler raised: `kind` is later, gone, permanent or error; `seconds` are those of a RetryLaterError."""

    kind: str
    text: str
    seconds: float = 0.0

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        """An exception, ready for the way."""
        if isinstance(error, RetryLaterError):
            return cls("later", _text(error), error.seconds)
        if isinstance(error, TargetGoneError):
            return cls("gone", _text(error))
        if isinstance(error, PermanentError | InvalidEventError):
            return cls("permanent", _text(error))
        return cls("error", f"{type(error).__name__}: {_text(error)}")

    def error(self) -> Exception:
        """The exception again."""
        if self.kind == "later":
            return RetryLaterError(self.text, self.seconds)
        return {"gone": TargetGoneError, "permanent": PermanentError}.get(self.kind, RemoteError)(self.text)


class Child:
    """The process; made ready (its module imported) on its first call."""

    def __init__(self, path: str) -> None:
        self._link = link.Link()
        bound = structlog.contextvars.get_contextvars()
        self._process = _CONTEXT.Process(target=_serve, args=(path, self._link.theirs, bound), daemon=True)
        self._process.start()
        self._link.theirs.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once it died or was killed."""
        return self._process.is_alive()

    async def call(self, work: Event | list[Event]) -> Any:
        """The function's result for an event or a batch. Cancelling kills the process.

        Raises what the function raised (RemoteError for what is no error of ours), HandlerCrashedError when the
        process died. A batch's result may be a list with exceptions in it.
        """
        try:
            await self._link.send((work, current_traceparent()))
            answer = await self._link.receive()
        except asyncio.CancelledError:
            self.kill()
            raise
        except (EOFError, OSError) as error:
            await asyncio.to_thread(self._process.join, 1)
            code = self._process.exitcode
            how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
            self.kill()
            raise HandlerCrashedError(f"the handler's process ended {how}") from error
        if isinstance(answer, _Failure):
            raise answer.error()
        if isinstance(work, list) and isinstance(answer, list):
            return [each.error() if isinstance(each, _Failure) else each for each in answer]
        return answer

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._link.close()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its __str__ is the handler's code
        return ""


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _serve(path: str, end: socket.socket, bound: dict[str, Any]) -> None:
    """The child's whole life: an event or a batch in, an outcome out, until the parent is gone.

    Its logs are as the worker's, with the same words `bound`.
    """
    from headgate.handlers.python import load_function  # noqa: PLC0415 - in the child, and against an import cycle

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A parent that was killed leaves a pipe that other children may hold open: watch the parent itself.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if bound:
        configure_logging(**bound)
    function = load_function(path)
    while True:
        try:
            work, traceparent = link.receive(end)
        except EOFError:
            return
        handled_event.set(None if isinstance(work, list) else work)
        handled_under.set(traceparent)
        try:
            answer = function(work)
            if isinstance(work, list) and isinstance(answer, list):
                answer = [_Failure.of(each) if isinstance(each, Exception) else each for each in answer]
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            answer = _Failure.of(error)
        try:
            link.send(end, answer)
        except Exception as error:  # noqa: BLE001 - pickle raises what it likes
            # No retry mends it, and what cannot be passed on is no JSON either.
            told = f"the handler's result cannot be passed between processes: {error!r}"
            link.send(end, _Failure("permanent", told))
