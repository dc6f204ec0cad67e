"""The server of a local run, which ends with it, however that ends."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams.embedded import EmbeddedServer, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def embedded_server() -> Iterator[str]:
    """The URL of a server of its own, its data in a folder that goes with it; raises ServerUnavailableError."""
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        server = EmbeddedServer.start(Path(folder))
        with guarded(server, folder):
            try:
                yield server.url
            finally:
                server.stop()
