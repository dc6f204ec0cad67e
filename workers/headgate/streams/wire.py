"""One connection of a worker's hot path: commands go out packed, replies come back in order, nothing in between.

The general client costs 15 microseconds an event; this is a plain asyncio transport around hiredis, which costs one.
A wire never reconnects: when it breaks, everything waiting fails with ServerUnavailableError and a new one is opened,
because only the caller knows whether what was asked may be asked again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from headgate.streams.errors import NotProvisionedError, ServerUnavailableError, StreamsError
from headgate.streams.server import CLUSTER_SCHEMES, Server, redact

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from headgate.streams.script import Script

# Replies after which another node, or the same one later, is the right one to ask.
_ELSEWHERE = (
    "MOVED",
    "ASK",
    "CLUSTERDOWN",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "UNBLOCKED",
    "OOM",
    "MISCONF",
    "BUSY ",
)
_OPEN_SECONDS = 5.0


class Wire(asyncio.Protocol):
    """A connection to the node that holds a key; made by `open_wire`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._broken: Exception | None = None

    @property
    def is_open(self) -> bool:
        """False once the connection broke or was closed."""
        return self._broken is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's call: the connection stands."""
        self._transport = transport  # type: ignore[assignment] # a stream transport, by construction

    def data_received(self, data: bytes) -> None:
        """Asyncio's call: bytes came; hands each whole reply to the one who waits for it."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not Ellipsis:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's call: the connection is gone, and so is every reply still awaited."""
        self._broken = ServerUnavailableError(
            f"Redis server {self._name}: connection lost ({exc or 'closed'})"
        )
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(self._broken)

    def close(self) -> None:
        """Closes at once; what is awaited fails."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, command: Sequence[str | bytes | int]) -> asyncio.Future[Any]:
        """Sends one command; its raw reply comes with the future (an error reply as a value)."""
        waiter: asyncio.Future[Any] = self._loop.create_future()
        if self._broken is not None or self._transport is None:
            waiter.set_exception(
                self._broken or ServerUnavailableError(f"Redis server {self._name}: not connected")
            )
            return waiter
        self._waiting.append(waiter)
        self._transport.write(hiredis.pack_command(tuple(command)))  # type: ignore[arg-type] # its stub wants one type for all
        return waiter

    async def call(self, *command: str | bytes | int) -> Any:
        """One command; raises what its error reply means (see `raise_reply`)."""
        reply = await self.send(command)
        if isinstance(reply, hiredis.ReplyError):
            raise_reply(reply, self._name)
        return reply

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """One script call, loading the script where the server does not know it."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        reply = await self.send(command)
        if isinstance(reply, hiredis.ReplyError):
            if not str(reply).startswith("NOSCRIPT"):
                raise_reply(reply, self._name)
            await self.call("SCRIPT", "LOAD", script.text)
            return await self.call(*command)
        return reply


class Wires:
    """A worker's wires, one a node, shared by all that does not block; opened on first use and after a break."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wires: dict[tuple[str, int], Wire] = {}
        self._opening = asyncio.Lock()

    async def get(self, key: str) -> Wire:
        """The wire to the node that holds `key`; raises ServerUnavailableError."""
        address = await self._server.address(key)
        wire = self._wires.get(address)
        if wire is None or not wire.is_open:
            async with self._opening:
                wire = self._wires.get(address)
                if wire is None or not wire.is_open:
                    wire = self._wires[address] = await open_wire(self._server, key)
        return wire

    def close(self) -> None:
        """Closes every wire; what is awaited on them fails."""
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()


def raise_reply(reply: hiredis.ReplyError, name: str) -> None:
    """Raises NotProvisionedError, ServerUnavailableError or StreamsError for an error reply."""
    text = str(reply)
    if text.startswith("NOGROUP") or "no such key" in text:
        raise NotProvisionedError(text)
    if text.startswith(_ELSEWHERE):
        raise ServerUnavailableError(f"Redis server {name}: {text}")
    raise StreamsError(f"Redis server {name}: {text}")


async def open_wire(server: Server, key: str) -> Wire:
    """A new wire to the node that holds `key`, logged in; raises ServerUnavailableError."""
    scheme, rest = server.url.split("://", 1)
    options = parse_url(f"{CLUSTER_SCHEMES.get(scheme, scheme)}://{rest}")
    name = redact(server.url)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            if "path" in options:
                _, wire = await loop.create_unix_connection(lambda: Wire(name), options["path"])
            else:
                host, port = await server.address(key)
                _, wire = await loop.create_connection(lambda: Wire(name), host, port, ssl=_tls(options))
            await _log_in(wire, options)
    except (OSError, TimeoutError) as error:
        raise ServerUnavailableError(f"Redis server {name}: {str(error) or 'timed out'}") from error
    return wire


async def _log_in(wire: Wire, options: Any) -> None:
    try:
        if options.get("password"):
            await wire.call("AUTH", options.get("username") or "default", options["password"])
        if options.get("db"):
            await wire.call("SELECT", options["db"])
    except BaseException:
        wire.close()  # whoever is refused comes again, each time on a new connection
        raise


def _tls(options: Any) -> ssl.SSLContext | None:
    """What the client library would make of the URL's `ssl_` options; None without TLS."""
    if options.get("connection_class") is not SSLConnection:
        return None
    chosen = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**chosen).ssl_context.get()
