"""A Redis server that keeps what it acknowledged through its own death: append-only file, synced with every write."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from streams.servers import free_port, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60.0


class DurableServer:
    """One server that can be killed and comes back on the same port with the same folder."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}"
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": folder,
            "logfile": folder / "server.log",
            "save": "",
            "appendonly": "yes",
            # With `everysec` the server may acknowledge what it has not handed to the kernel while a sync is slow.
            "appendfsync": "always",
        }
        self._command = [redis_server()]
        for name, value in options.items():
            self._command += [f"--{name}", str(value)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns when it has loaded its data and answers."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        with contextlib.closing(redis.Redis(port=self._port, socket_timeout=5)) as client:
            while True:
                assert self._process.poll() is None, "the server did not start"
                try:
                    client.ping()
                    return  # noqa: TRY300 - the loop's end
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "the server does not answer"
                    time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stall(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while: every lease is over when it goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    @staticmethod
    @contextlib.contextmanager
    def running() -> Iterator[DurableServer]:
        """A server in a folder of its own; gone when left."""
        with tempfile.TemporaryDirectory(prefix="headgate-ledger-") as folder:
            server = DurableServer(Path(folder))
            server.start()
            try:
                yield server
            finally:
                server.kill()
