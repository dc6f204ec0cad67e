"""A target of `http` handlers: a server on loopback that answers as a test says and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

LOOPBACK = ("127.0.0.0/8",)


class Target:
    """A server that answers as its `answer` says, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.BaseRequest, bytes]] = []
        self.answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = self._fine
        self.gone = asyncio.Event()
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/events"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request, await request.content.read()))
        return await self.answer(request)

    def answers(self, status: int, body: Any = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_: web.BaseRequest) -> web.Response:
            return web.json_response(body, status=status, headers=named)

        self.answer = answer

    async def hang(self, _: web.BaseRequest) -> web.Response:
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        raise AssertionError

    async def _fine(self, _: web.BaseRequest) -> web.Response:
        return web.Response()


@contextlib.asynccontextmanager
async def serving(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    """A target that answers 200 until it is told otherwise."""
    made = Target()
    made.scheme = "http" if tls is None else "https"
    runner = web.ServerRunner(web.Server(made.handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
