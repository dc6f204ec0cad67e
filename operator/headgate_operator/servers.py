"""The connection to each pipeline's server; pipelines with the same URL share one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from headgate.streams import Server
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from headgate_operator.pipeline import Pipeline


class Servers:
    """Which server carries which pipeline, as last assigned."""

    def __init__(self, connect: Callable[[str], Server] = Server.connect) -> None:
        self._connect = connect
        self._urls: dict[tuple[str, str], str] = {}
        self._servers: dict[str, Server] = {}

    async def assign(self, pipeline: Pipeline, url: str) -> Server:
        """The server at that URL carries the pipeline from now on; connects when it is first used.

        Raises Problem when it is no URL of a server.
        """
        key = (pipeline.namespace, pipeline.name)
        if self._urls.get(key) != url:
            try:
                server = self._servers.get(url) or self._connect(url)
            except ValueError as error:
                raise Problem("InvalidURL", f"{error}; correct the URL in the pipeline's Secret") from error
            await self.release(*key)
            self._urls[key], self._servers[url] = url, server
        return self._servers[url]

    @asynccontextmanager
    async def visit(self, url: str) -> AsyncIterator[Server]:
        """The server at that URL for a look, whoever it carries; raises Problem when it is no URL of a server."""
        if url in self._servers:
            yield self._servers[url]
            return
        try:
            server = self._connect(url)
        except ValueError as error:
            raise Problem("InvalidURL", f"{error}; correct the URL in the pipeline's Secret") from error
        try:
            yield server
        finally:
            await server.aclose()

    def other(self, pipeline: Pipeline, url: str) -> Server | None:
        """The server that carries the pipeline now, if that is another than the one at this URL."""
        known = self._urls.get((pipeline.namespace, pipeline.name))
        return None if known in {None, url} else self._servers[known or ""]

    def url(self, pipeline: Pipeline) -> str | None:
        """The URL of the server that carries the pipeline; None when none was assigned."""
        return self._urls.get((pipeline.namespace, pipeline.name))

    def of(self, pipeline: Pipeline) -> Server:
        """The server that carries the pipeline; raises KeyError when none was assigned."""
        return self._servers[self._urls[pipeline.namespace, pipeline.name]]

    async def release(self, namespace: str, name: str) -> None:
        """The pipeline needs no server any more; one that carries no other is disconnected."""
        url = self._urls.pop((namespace, name), None)
        if url is not None and url not in self._urls.values():
            await self._servers.pop(url).aclose()

    async def aclose(self) -> None:
        """Disconnects from all."""
        servers, self._urls, self._servers = list(self._servers.values()), {}, {}
        for server in servers:
            await server.aclose()
