"""The operator's HTTP: metrics for Prometheus, and probes that tell the truth."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from prometheus_client import CollectorRegistry

    Route = Callable[[web.Request], Awaitable[web.Response]]


def probe(complaints: Callable[[], Sequence[str]]) -> Route:
    """Answers 200 when there is nothing to complain about, else 503 with the complaints, one a line."""

    async def answer(_: web.Request) -> web.Response:
        found = complaints()
        return web.Response(status=503 if found else 200, text="\n".join(found) or "ok")

    return answer


def metrics(registry: CollectorRegistry) -> Route:
    """Answers with a registry's metrics as Prometheus reads them."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


@asynccontextmanager
async def serving(port: int, routes: Mapping[str, Route]) -> AsyncIterator[int]:
    """Serves GET on these paths, on every interface; gives the port, which is any free one for 0."""
    app = web.Application()
    app.add_routes([web.get(path, route) for path, route in routes.items()])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        # Any free port is another one for IPv4 and for IPv6.
        yield min(runner.addresses, key=lambda address: ":" in address[0])[1]
    finally:
        await runner.cleanup()
