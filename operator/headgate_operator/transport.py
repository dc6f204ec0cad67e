"""Requests to one API server: the client library's configuration, and none of its layers.

They cost a third of an operator's time with many pipelines: a recursive copy of each body, a retry client around each
request, and two hops to a thread to read `.netrc` and the proxy variables anew.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from kubernetes.aio.client.rest import RESTClientObject
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kubernetes.aio import client

_CONNECTIONS = 64


class Transport:
    """Connections to the API server of a configuration, opened on first use by the loop that uses them."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        self._session: aiohttp.ClientSession | None = None
        self._proxy = configuration.proxy or _proxy_of_environment(configuration.host)

    async def request(
        self,
        method: str,
        resource_path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        *,
        content_type: str,
        seconds: float,
    ) -> tuple[int, bytes]:
        """Status and body of the answer; raises aiohttp.ClientError, TimeoutError or OSError when there is none."""
        patience = aiohttp.ClientTimeout(total=seconds)
        async with self._asked(method, resource_path, query, body, content_type, patience) as response:
            return response.status, await response.read()

    async def lines(
        self, resource_path: str, query: Mapping[str, str], *, silent_seconds: float
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Status and each line of an answer that goes on; TimeoutError too when it says nothing for so long."""
        patience = aiohttp.ClientTimeout(total=None, sock_connect=silent_seconds, sock_read=silent_seconds)
        async with self._asked("GET", resource_path, query, None, "application/json", patience) as response:
            async for line in response.content:
                yield response.status, line

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _asked(  # noqa: PLR0917  # a request is what it is
        self,
        method: str,
        resource_path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
        patience: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers: dict[str, str] = {"Accept": "application/json", "Content-Type": content_type}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        elif self._configuration.username:
            headers["Authorization"] = self._configuration.get_basic_auth_token() or ""
        session = self._session or self._open()
        async with session.request(
            method,
            URL(self._configuration.host + resource_path).with_query(query),
            data=None if body is None else msgspec.json.encode(body),
            headers=headers,
            proxy=self._proxy,
            proxy_headers=self._configuration.proxy_headers,
            server_hostname=self._configuration.tls_server_name,
            timeout=patience,
        ) as response:
            yield response

    def _open(self) -> aiohttp.ClientSession:
        tls = RESTClientObject(self._configuration).ssl_context
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=tls), read_bufsize=2**21
        )
        return self._session


def _proxy_of_environment(host: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for the API server, as they are now."""
    url = URL(host)
    if proxy_bypass(url.host or ""):
        return None
    return getproxies().get(url.scheme)
