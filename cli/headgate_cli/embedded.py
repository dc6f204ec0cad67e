"""The server of a local run, which ends with it, however that ends."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

# Reads until the run's end of the pipe closes, which the system does also at kill -9, and cleans up then.
_GUARD = 'cat >/dev/null; kill -9 "$1" 2>/dev/null; rm -rf -- "$2"'


@contextmanager
def embedded_server() -> Iterator[str]:
    """The URL of a server of its own, its data in a folder that goes with it; raises ServerUnavailableError."""
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        server = EmbeddedServer.start(Path(folder))
        with _guarded(server, folder):
            try:
                yield server.url
            finally:
                server.stop()


@contextmanager
def _guarded(server: EmbeddedServer, folder: str) -> Iterator[None]:
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
