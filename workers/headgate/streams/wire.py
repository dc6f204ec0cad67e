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
from redis.asyncio.connection import SSLConnection

from headgate.streams.errors import ServerUnavailableError
from headgate.streams.refusals import MOVED_WORDS, broken, meaning

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from headgate.streams.script import Script
    from headgate.streams.server import Server
    from headgate.streams.url import ServerUrl

_OPEN_SECONDS = 5.0
# Replies of a node that this connection is of no more use on: the key, or the node's role, is another's for good.
_GONE_WORDS = ("MOVED", "READONLY", "MASTERDOWN", "UNBLOCKED")


class Wire(asyncio.Protocol):
    """A connection to the node that holds a key; made by `open_wire`.

    `doubt` is called when the node is gone, or says that the key is another's now.
    """

    def __init__(self, target: ServerUrl, doubt: Callable[[], None] = lambda: None) -> None:
        self._target = target
        self._name = str(target)
        self._doubt = doubt
        self._said: Exception | None = None
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
        try:
            while (reply := self._reader.gets()) is not Ellipsis:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(reply)
        except IndexError:
            # Said without having been asked: too many clients, or protected mode; the server hangs up next.
            self._said = meaning(str(reply), self._name)
            self.close()
        except hiredis.ProtocolError as error:
            self._said = broken(ConnectionError(f"what answers is no Redis server: {error}"), self._target)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's call: the connection is gone, and so is every reply still awaited."""
        lost = ConnectionError(f"connection lost ({exc or 'closed'})")
        lost.__cause__ = exc
        self._broken = self._said or broken(lost, self._target)
        self._doubt()
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
        # What cannot be packed raises here: a waiter for it would get the next one's reply.
        packed = hiredis.pack_command(tuple(command))  # type: ignore[arg-type] # its stub wants one type for all
        self._waiting.append(waiter)
        self._transport.write(packed)
        return waiter

    async def call(self, *command: str | bytes | int) -> Any:
        """One command; raises what its error reply means (see headgate.streams.refusals)."""
        reply = await self.send(command)
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(reply)
        return reply

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """One script call, loading the script where the server does not know it."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        reply = await self.send(command)
        if isinstance(reply, hiredis.ReplyError):
            if not str(reply).startswith("NOSCRIPT"):
                raise self._refused(reply, script)
            await self.call("SCRIPT", "LOAD", script.text)
            reply = await self.send(command)
            if isinstance(reply, hiredis.ReplyError):
                raise self._refused(reply, script)
        return reply

    def _refused(self, reply: hiredis.ReplyError, script: Script | None = None) -> Exception:
        text = str(reply)
        if text.startswith(MOVED_WORDS):
            self._doubt()
            if text.startswith(_GONE_WORDS):
                self.close()  # whoever else waits here asks again too, where it is now
        return meaning(text, self._name, script)


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


async def open_wire(server: Server, key: str) -> Wire:
    """A new wire to the node that holds `key`, logged in; raises ServerUnavailableError."""
    target = server.target
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            if target.path is not None:
                _, wire = await loop.create_unix_connection(lambda: Wire(target), target.path)
            else:
                host, port = await server.address(key)
                _, wire = await loop.create_connection(
                    lambda: Wire(target, server.doubt), host, port, ssl=_tls(target)
                )
            await _log_in(wire, target)
    except (OSError, TimeoutError) as error:
        server.doubt()
        raise broken(error, target) from error
    return wire


async def _log_in(wire: Wire, target: ServerUrl) -> None:
    try:
        if target.password:
            await wire.call("AUTH", target.username or "default", target.password)
        if target.db:
            await wire.call("SELECT", target.db)
    except BaseException:
        wire.close()  # whoever is refused comes again, each time on a new connection
        raise


def _tls(target: ServerUrl) -> ssl.SSLContext | None:
    """What the client library makes of the URL's `ssl_` options; None without TLS."""
    if not target.is_tls:
        return None
    return SSLConnection(**target.tls_options).ssl_context.get()
