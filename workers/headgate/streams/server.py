"""A Redis or Valkey server, or a Redis Cluster, as everything but the workers' hot path talks to it.

Scripts are called by hash and loaded where a server does not know them (a restart, a failover, a new node). On a
cluster a batch goes to its nodes side by side; on a single server it is one round trip.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio as redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import (
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from headgate.streams.errors import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headgate.streams.script import Script

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
SCHEMES = ("redis", "rediss", "unix", *CLUSTER_SCHEMES)
SOCKET_SECONDS = 5.0
# Replies that tell of the server's state and not of what was asked.
_REFUSALS = (ClusterError, OutOfMemoryError, ReadOnlyError)
_REFUSING_WORDS = ("MISCONF", "BUSY ", "NOREPLICAS", "MASTERDOWN")


@dataclass(frozen=True)
class Call:
    """One script call; its keys share a hash tag."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


def redact(url: str) -> str:
    """The URL without its password, for logs and messages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


class Server:
    """A connection pool to one server. Methods raise ServerUnavailableError when it cannot be reached."""

    def __init__(self, url: str) -> None:
        scheme = urlsplit(url).scheme
        if scheme not in SCHEMES:
            raise ValueError(
                f"Redis URL {redact(url)!r}: scheme {scheme!r} is not one of {', '.join(SCHEMES)}"
            )
        self.url = url
        self.is_cluster = scheme in CLUSTER_SCHEMES
        options: dict[str, Any] = {
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": SOCKET_SECONDS,
            "protocol": 2,
        }
        self._client: Any
        if self.is_cluster:
            plain = CLUSTER_SCHEMES[scheme] + url[len(scheme) :]
            self._client = RedisCluster.from_url(plain, **options)
        else:
            self._client = redis.Redis.from_url(url, **options)

    @classmethod
    def connect(cls, url: str) -> Server:
        """A server by URL, one of SCHEMES; connects on first use."""
        return cls(url)

    async def ping(self) -> None:
        """Returns when the server answers."""
        if self.is_cluster:
            await self._guard(self._client.ping(target_nodes="primaries"))
        else:
            await self._guard(self._client.ping())

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    async def execute(self, key: str, *command: str | bytes | float) -> Any:
        """One command whose key is `key`; the reply as the client library parses it (a stream entry is (id, dict))."""
        if self.is_cluster:
            await self._guard(self._client.initialize())
            node = self._client.get_node_from_key(key)
            return await self._guard(self._client.execute_command(*command, target_nodes=node))
        return await self._guard(self._client.execute_command(*command))

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
        return replies

    async def scan(self, pattern: str) -> AsyncIterator[bytes]:
        """Keys that match a glob, of every node; a key may come twice."""
        found = self._client.scan_iter(match=pattern, count=1000)
        while (key := await self._guard(anext(found, None))) is not None:
            yield key

    async def address(self, key: str) -> tuple[str, int]:
        """Host and port of the node that holds a key now."""
        if not self.is_cluster:
            options = self._client.connection_pool.connection_kwargs
            return options.get("host", "localhost"), int(options.get("port", 6379))
        await self._guard(self._client.initialize())
        node = self._client.get_node_from_key(key)
        return node.host, int(node.port)

    async def rediscover(self) -> None:
        """Asks a cluster anew which node holds what; a single server stays as it is."""
        if self.is_cluster:
            await self._guard(self._client.aclose())
            await self._guard(self._client.initialize())

    async def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        return [self._meant(reply) for reply in await self._guard(pipeline.execute(raise_on_error=False))]

    async def _run_on_nodes(self, calls: Sequence[Call]) -> list[Any]:
        """Slots side by side; calls of one slot in the order given, as on a single server."""
        replies: list[Any] = [None] * len(calls)
        places: dict[str, list[int]] = {}
        for place, call in enumerate(calls):
            places.setdefault(call.keys[0].partition("}")[0], []).append(place)

        async def run(of_one_slot: list[int]) -> None:
            for place in of_one_slot:
                replies[place] = await self._run_on_node(calls[place])

        await asyncio.gather(*(run(of_one_slot) for of_one_slot in places.values()))
        return replies

    async def _run_on_node(self, call: Call) -> Any:
        key = call.keys[0]
        command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        try:
            try:
                return await self.execute(key, *command)
            except NoScriptError:
                await self.execute(key, "SCRIPT LOAD", call.script.text)
                return await self.execute(key, *command)
        except ResponseError as error:
            return error

    async def _guard(self, awaitable: Any) -> Any:
        try:
            return await awaitable
        except (RedisConnectionError, RedisTimeoutError, RedisClusterException, OSError) as error:
            raise ServerUnavailableError(f"Redis server {redact(self.url)}: {error}") from error
        except ResponseError as error:
            meant = self._meant(error)
            if meant is error:
                raise
            raise meant from error
        except RedisError as error:
            raise ServerUnavailableError(f"Redis server {redact(self.url)}: {error}") from error

    def _meant(self, reply: Any) -> Any:
        """The reply, or what it means when the server refused whatever was asked."""
        if isinstance(reply, _REFUSALS) or (
            isinstance(reply, ResponseError) and str(reply).startswith(_REFUSING_WORDS)
        ):
            return ServerUnavailableError(f"Redis server {redact(self.url)}: {reply}")
        return reply
