"""The server of a local run: one of the user's, or one that comes and goes with the run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from headgate.streams import Server
from headgate_cli.embedded import embedded_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@contextlib.contextmanager
def server_url(given: str | None) -> Iterator[str]:
    """The URL of the given server, or without one of a server that stops when the block ends."""
    if given is not None:
        yield given
        return
    with embedded_server() as url:
        yield url


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Server]:
    """The server at a URL, which has answered; raises ServerUnavailableError, or ValueError for no URL of one."""
    server = Server.connect(url)
    try:
        await server.ping()
        yield server
    finally:
        await server.aclose()
