"""kopf's connections to the API server, which ask before each write as all others of the operator do.

kopf watches, and writes little: finalisers, and attempts of a handler that failed. A process that has lost its Lease
must not write these either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import kopf

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class WatcherSession(kopf.AiohttpSession):
    """What kopf logs in with. Two are the same when their `connection` is: one that was refused is not tried again."""

    aiohttp_session: aiohttp.ClientSession = field(compare=False)
    connection: kopf.ConnectionInfo


def watcher_session(connection: kopf.ConnectionInfo, permit: Callable[[], None]) -> WatcherSession:
    """As kopf itself would connect; `permit` is asked right before each write is sent, and may raise to forbid it."""

    class Asking(aiohttp.ClientRequest):
        async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
            if self.method != "GET":
                permit()
            return await super().send(conn)

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=connection.as_ssl_context()),
        headers=connection.as_http_headers(),
        request_class=Asking,
    )
    return WatcherSession(server=connection.server, connection=connection, aiohttp_session=session)
