"""Between an operator and the API server: names every write for Fate, and makes the weather that was ordered.

Plain HTTP on the operator's side. Nothing is invented: what goes through is the API server's own answer, unless the
weather replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from chaos.operator.fate import StruckError
from headgate_operator.cluster import FIELD_MANAGER

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.operator.api import Api
    from chaos.operator.fate import Fate
    from chaos.operator.weather import Weather

_PASSED_ON = ("Content-Type", "Accept")


class KubeProxy:
    """One a lane; it outlives the operators that talk through it."""

    def __init__(self, api: Api, fate: Fate, weather: Weather) -> None:
        self._api = api
        self._fate = fate
        self.weather = weather
        self._watches: set[asyncio.Task[Any]] = set()
        self._open: dict[int, web.BaseRequest] = {}
        self._runner: web.ServerRunner | None = None
        self.watched: set[str] = set()
        """Resources that the living operator has watched so far."""

    async def start(self, kubeconfig: Path) -> None:
        """Listens, and writes the kubeconfig that leads here."""
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        _write_kubeconfig(kubeconfig, f"http://127.0.0.1:{port}")

    async def stop(self) -> None:
        """Ends everything."""
        self.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()

    def hang_up(self) -> None:
        """Closes what the dead operator had open."""
        for task in self._watches:
            task.cancel()
        for request in list(self._open.values()):
            _abort(request)
        self.watched.clear()
        self.weather.forget()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._open[id(request)] = request
        try:
            return await self._relay(request)
        except StruckError:
            _abort(request)
            return web.Response(status=503)  # to nobody
        finally:
            del self._open[id(request)]

    async def _relay(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.query.get("watch"):
            return await self._watch(request)
        write = (
            None
            if request.method == "GET"
            else name_of(request.method, request.path, request.query.get("fieldManager", ""), body)
        )
        ruled = await self.weather.rule(request.method, request.path_qs)
        if ruled is not None:
            return ruled
        dies = self._fate.enter(write)
        try:
            headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
            async with self._api.session.request(
                request.method, self._api.url + request.path_qs, data=body or None, headers=headers
            ) as upstream:
                status, text = upstream.status, await upstream.read()
        except BaseException:
            self._fate.abandon()
            raise
        self._fate.leave(dies=dies)
        if request.method == "GET" and status == 200:
            text = self.weather.age(request.path_qs, text)
        return web.Response(status=status, body=text, content_type="application/json")

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            async with self._api.session.get(self._api.url + request.path_qs) as upstream:
                answer.set_status(upstream.status)
                await answer.prepare(request)
                self.watched.add(request.path.rsplit("/", 1)[-1])
                async for line in upstream.content:
                    if self._fate.struck.is_set():
                        raise StruckError
                    for each in await self.weather.pass_on(line):
                        await answer.write(each)
                    if self.weather.breaks_watch():
                        break
        except (aiohttp.ClientError, ConnectionError):
            pass
        finally:
            self._watches.discard(task)
        with contextlib.suppress(ConnectionError):
            await answer.write_eof()
        return answer


def _write_kubeconfig(path: Path, url: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lane", "cluster": {"server": url}}],
        "users": [{"name": "operator", "user": {}}],
        "contexts": [{"name": "lane", "context": {"cluster": "lane", "user": "operator"}}],
        "current-context": "lane",
    }
    path.write_text(json.dumps(config))


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def name_of(method: str, path: str, manager: str, body: bytes) -> str:
    """What a write is called: the same for the same write of another run, whatever its namespace."""
    parts = path.strip("/").split("/")
    at = parts.index("namespaces") + 2
    what = "/".join(parts[at:])
    content: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        content = json.loads(body)
    if what == "events":
        return f"{method} event {content.get('reason')}"
    if parts[at] == "events":
        return f"{method} event again"
    if "finalizers" in json.dumps(content)[:400]:
        return f"{method} {what} finalizers"
    return f"{method} {what}" + (f" by {manager}" if manager not in ("", FIELD_MANAGER) else "")
