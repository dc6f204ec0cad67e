"""A Redis or Valkey server, a master behind sentinels or a Redis Cluster, as all but the workers' hot path talks to it.

Scripts are called by hash and loaded where a server does not know them (a restart, a failover, a new node). On a
cluster a batch goes to its nodes side by side; on a single server it is one round trip. The client library repeats
nothing by itself: a command whose connection is cut is asked again here, once, if asking twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from headgate.streams.clients import client
from headgate.streams.errors import DeniedError, ServerUnavailableError
from headgate.streams.refusals import broken, causes, meaning
from headgate.streams.url import read_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from headgate.streams.script import Script

_LOADS = 3  # of a script, before a node that never knows it is given up
# Commands that a cut connection may have run already without harm.
_READS = {
    *("DUMP", "EXISTS", "TYPE", "TTL", "PTTL", "GET", "HGET", "HMGET", "HGETALL", "LLEN", "LRANGE"),
    *("XINFO", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZRANGE", "ZSCORE"),
}


@dataclass(frozen=True)
class Call:
    """One script call; its keys share a hash tag. `repeatable`: running it twice is as good as once."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]
    repeatable: bool = True


class Server:
    """Connections to one server, or one cluster. Methods raise ServerUnavailableError when it cannot be reached.

    `permit` is asked right before each request is sent, and may raise to forbid it.
    """

    def __init__(self, url: str, permit: Callable[[], None] | None = None) -> None:
        self.url = url
        self.target = read_url(url)
        self.name = str(self.target)
        self.is_cluster = self.target.is_cluster
        self._doubted = False
        self._asking = asyncio.Lock()
        self._master: tuple[str, int] | None = None
        self._closing: list[Callable[[], None]] = []
        self._client, self._sentinel = client(self.target, permit)

    @classmethod
    def connect(cls, url: str, permit: Callable[[], None] | None = None) -> Server:
        """A server by URL (see headgate.streams.url); connects on first use. Raises ValueError for no such URL."""
        return cls(url, permit)

    async def ping(self) -> None:
        """Returns when the server answers."""
        if self.is_cluster:
            await self._guard(self._client.ping(target_nodes="primaries"))
        else:
            await self._guard(self._client.ping())

    async def aclose(self) -> None:
        """Closes every connection."""
        for close in self._closing:
            close()
        await self._client.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    def at_close(self, close: Callable[[], None]) -> None:
        """Has `close` called when this server's connections are closed."""
        self._closing.append(close)

    async def execute(self, key: str, *command: str | bytes | float) -> Any:
        """One command whose key is `key`; the reply as the client library parses it (a stream entry is (id, dict))."""
        return await self._execute(key, command, repeatable=command[0] in _READS)

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Many script calls in one round trip a server; an error reply stands in its call's place."""
        if not calls:
            return []
        if self.is_cluster:
            return await self._run_on_nodes(calls)
        replies = await self._pipeline(calls)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for text in {calls[place].script.text for place in unknown}:
                await self._guard(self._client.script_load(text))
            again = await self._pipeline([calls[place] for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return [self._meant(reply, call.script) for reply, call in zip(replies, calls, strict=True)]

    async def scan(self, pattern: str) -> AsyncIterator[bytes]:
        """Keys that match a glob, of every node; a key may come twice."""
        found = self._client.scan_iter(match=pattern, count=1000)
        while (key := await self._guard(anext(found, None))) is not None:
            yield key

    async def address(self, key: str) -> tuple[str, int]:
        """Host and port of the node that holds a key now, as far as we know; asks anew after `doubt`."""
        if self._doubted:
            await self._settle_doubt()
        if self.is_cluster:
            await self._guard(self._client.initialize())
            node = self._client.get_node_from_key(key)
            if node is None:
                raise ServerUnavailableError(f"Redis server {self.name}: no node holds the slot of {key!r}")
            return node.host, int(node.port)
        if self._sentinel is not None:
            if self._master is None:
                self._master = await self._guard(self._client.connection_pool.get_master_address())
            return self._master
        return self.target.hosts[0] if self.target.hosts else ("localhost", 0)

    def doubt(self) -> None:
        """A node is gone, or says that another has the key: the next `address` asks who has what."""
        self._doubted = True

    async def rediscover(self) -> None:
        """Asks a cluster which node holds what, or sentinels who is master; a single server stays as it is."""
        if self.is_cluster:
            await self._guard(self._client.initialize())
            await self._guard(self._client.nodes_manager.initialize())
        elif self._sentinel is not None:
            self._master = await self._guard(self._client.connection_pool.get_master_address())

    async def _settle_doubt(self) -> None:
        async with self._asking:
            if self._doubted:
                await self.rediscover()
                self._doubted = False

    async def _execute(
        self, key: str, command: Sequence[Any], *, repeatable: bool, script: Script | None = None
    ) -> Any:
        async def ask() -> Any:
            if not self.is_cluster:
                with _closed_under_us():
                    return await self._client.execute_command(*command)
            await self._client.initialize()
            node = self._client.get_node_from_key(key)
            with _closed_under_us():
                return await self._client.execute_command(*command, target_nodes=node)

        return await self._guard(self._twice(ask) if repeatable else ask(), script)

    async def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        async def ask() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            with _closed_under_us():
                found: list[Any] = await pipeline.execute(raise_on_error=False)
            return found

        repeatable = all(call.repeatable for call in calls)
        replies: list[Any] = await self._guard(self._twice(ask) if repeatable else ask())
        return replies

    async def _run_on_nodes(self, calls: Sequence[Call]) -> list[Any]:
        """Slots side by side; calls of one slot in the order given, as on a single server."""
        replies: list[Any] = [None] * len(calls)

        async def run(of_one_slot: list[int]) -> None:
            for at, place in enumerate(of_one_slot):
                reply = replies[place] = await self._run_on_node(calls[place])
                if isinstance(reply, ServerUnavailableError):
                    # Asked again later, it must not come after those behind it.
                    for behind in of_one_slot[at:]:
                        replies[behind] = reply
                    break

        await asyncio.gather(*(run(of_one_slot) for of_one_slot in places_by_slot(calls)))
        return replies

    async def _run_on_node(self, call: Call) -> Any:
        key, script = call.keys[0], call.script
        command = ("EVALSHA", script.sha, len(call.keys), *call.keys, *call.args)
        try:
            for _ in range(_LOADS):
                try:
                    return await self._execute(key, command, repeatable=call.repeatable, script=script)
                except NoScriptError:
                    # Where the slot has just moved this may load it at the wrong node; the next reply tells which.
                    await self._execute(key, ("SCRIPT LOAD", script.text), repeatable=True)
            return await self._execute(key, command, repeatable=call.repeatable, script=script)
        except NoScriptError as error:
            return ServerUnavailableError(f"Redis server {self.name}: {error} Its slots are on the move")
        except ResponseError as error:
            return self._meant(error, script)

    async def _twice(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await ask()
        except AuthenticationError:
            raise
        except RedisConnectionError:  # cut, and not silent for so long that nobody should wait as long again
            if self.is_cluster:
                await self._client.nodes_manager.initialize()
            return await ask()

    async def _guard(self, awaitable: Awaitable[Any], script: Script | None = None) -> Any:
        try:
            return await awaitable
        except ResponseError as error:
            meant = self._meant(error, script)
            if meant is error:
                raise
            raise meant from error
        except (RedisError, RedisClusterException, OSError) as error:
            for seen in causes(error):
                if getattr(
                    seen, "status_code", None
                ):  # a reply, though the library takes it for no connection
                    raise meaning(_said(seen), self.name, script) from error
            raise broken(error, self.target) from error

    def _meant(self, reply: Any, script: Script | None = None) -> Any:
        """The reply, or what it means when the server refused whatever was asked."""
        if isinstance(reply, RedisError):
            meant = meaning(_said(reply), self.name, script)
            if isinstance(meant, ServerUnavailableError | DeniedError):
                return meant
        return reply


@contextlib.contextmanager
def _closed_under_us() -> Iterator[None]:
    """Makes a connection error of what comes up where a connection is closed in the middle of a command.

    The cluster client closes every connection when one breaks, also those that other tasks are at: an AttributeError.
    A transport of uvloop that is closed already takes no bytes: a RuntimeError.
    """
    try:
        yield
    except (AttributeError, RuntimeError) as error:
        if "'NoneType'" in str(error) or "handler is closed" in str(error):
            raise RedisConnectionError("closed in the middle of a command") from error
        raise


def places_by_slot(calls: Sequence[Call]) -> list[list[int]]:
    """Places of calls whose keys share a hash tag, together and in order."""
    places: dict[str, list[int]] = {}
    for place, call in enumerate(calls):
        places.setdefault(call.keys[0].partition("}")[0], []).append(place)
    return list(places.values())


def _said(error: BaseException) -> str:
    """The whole reply: the library takes its first word off."""
    word = getattr(error, "status_code", None)
    return f"{word} {error}" if word else str(error)
