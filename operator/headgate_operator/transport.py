"""Requests to one API server: the client library's configuration, and none of its layers.

They cost a third of an operator's time with many pipelines: a recursive copy of each body, a retry client around each
request, and two hops to a thread to read `.netrc` and the proxy variables anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from kubernetes.aio.client.rest import RESTClientObject
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

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
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as response:
            return response.status, await response.read()

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
