"""The server of a process's tests: one embedded server, started when it is first needed, a database a pipeline.

It ends with the interpreter, however that ends. A database of its own keeps tests apart although their namespaces are
those of their manifests.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headgate.streams.embedded import EmbeddedServer, NoServerProgramError, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATABASES = 256
_OPTIONS = ("--databases", str(_DATABASES), "--appendonly", "no")


class Database(NamedTuple):
    """A database's URL, and a folder that is removed with its server."""

    url: str
    folder: Path


class _Process:
    """The server of one process; another one that was forked from it needs its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.free = list(range(_DATABASES))
        self._running = contextlib.ExitStack()
        folder = self._running.enter_context(tempfile.TemporaryDirectory(prefix="headgate-testing-"))
        self.folder = Path(folder)
        server = EmbeddedServer.start(self.folder, *_OPTIONS)
        self._running.enter_context(guarded(server, folder))
        self._running.callback(server.stop)
        self.url = server.url
        atexit.register(self._stop)

    def _stop(self) -> None:
        if os.getpid() == self.pid:
            self._running.close()


_process: _Process | None = None
_starting = threading.Lock()


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """A database that nobody else of this process uses now; it may hold what was left there before.

    Raises ServerUnavailableError when no server can be started.
    """
    global _process  # noqa: PLW0603 - a server a process is the point
    with _starting:
        if _process is None or _process.pid != os.getpid():
            try:
                _process = _Process()
            except NoServerProgramError as error:
                raise NoServerProgramError(
                    "headgate.testing needs a server program: pip install 'headgate[local]', or have redis-server 7 or"
                    " newer on PATH"
                ) from error
        process = _process
        if not process.free:
            raise RuntimeError(f"{_DATABASES} pipelines are open in this process: leave some of them first")
        number = process.free.pop()
    try:
        yield Database(f"{process.url}/{number}", process.folder)
    finally:
        process.free.append(number)
