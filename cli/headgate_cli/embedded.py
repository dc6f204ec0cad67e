"""The server of a local run, which ends with it, however that ends."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headgate.streams.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Reads until the run's end of the pipe closes, which the system does also at kill -9, and kills the server then.
_GUARD = 'cat >/dev/null; kill -9 "$1" 2>/dev/null'


@contextmanager
def embedded_server(folder: Path) -> Iterator[str]:
    """The URL of a server of its own, with its data in `folder`; raises ServerUnavailableError."""
    server = EmbeddedServer.start(folder)
    ours, theirs = os.pipe()
    guard = subprocess.Popen(  # noqa: S603 - a constant script
        ["/bin/sh", "-c", _GUARD, "guard", str(server.pid)],
        stdin=ours,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(ours)
    try:
        yield server.url
    finally:
        guard.kill()
        guard.wait()
        os.close(theirs)
        server.stop()
