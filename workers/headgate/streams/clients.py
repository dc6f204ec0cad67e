"""The client library's clients: of one server, of a master that sentinels know, of a cluster.

Each may be given a `permit`, which its connections ask right before the bytes of each request go out, those of a login
too: what it raises the request raises, and nothing is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.streams.url import ServerUrl

SOCKET_SECONDS = 5.0
_SENTINEL_SECONDS = 1.0  # a sentinel that says nothing is passed over


def client(target: ServerUrl, permit: Callable[[], None] | None = None) -> tuple[Any, Sentinel | None]:
    """A client, which connects on first use, and the sentinels that it asks, if any."""
    options = client_options(target)
    if target.is_cluster:
        nodes = [ClusterNode(host, port) for host, port in target.hosts]
        cluster = RedisCluster(startup_nodes=nodes, **options)
        if permit is not None:
            asking = _asking(cluster.connection_kwargs["connection_class"], permit)
            # Of the nodes it begins with, and of those it finds.
            for node in cluster.startup_nodes:
                node.connection_class = asking
            cluster.connection_kwargs["connection_class"] = asking
        return cluster, None
    if target.service is not None:
        asked = sentinel(target)
        return permitted(asked.master_for(target.service), permit), asked
    options["db"] = target.db
    if target.path is not None:
        return permitted(redis.Redis(unix_socket_path=target.path, **options), permit), None
    ((host, port),) = target.hosts
    return permitted(redis.Redis(host=host, port=port, **options), permit), None


def permitted(made: redis.Redis, permit: Callable[[], None] | None) -> redis.Redis:
    """The client of one node that was just made; from now on its connections ask, if there is whom to ask."""
    if permit is not None:
        pool = made.connection_pool
        pool.connection_class = _asking(pool.connection_class, permit)
    return made


def _asking(connection: type[Any], permit: Callable[[], None]) -> type[Any]:
    """The same kind of connection, which asks."""

    class Asking(connection):  # type: ignore[misc]  # one of the library's, which one is known when it is made
        # In here nothing is awaited between the question and the bytes: `send_packed_command` may have to connect
        # first, and has a task of its own send them.
        async def _send_packed_command(self, command: Iterable[bytes]) -> None:
            permit()
            await super()._send_packed_command(command)

    return Asking


def client_options(target: ServerUrl) -> dict[str, Any]:
    """How the client library connects to any node of a server: its login, TLS, time-outs, and nothing asked twice."""
    return {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": SOCKET_SECONDS,
        "protocol": 2,
        "driver_info": None,  # CLIENT SETINFO, which no user needs a right for then
        **target.options,
        "username": target.username,
        "password": target.password,
        "ssl": target.is_tls,
        "retry": _never(),
    }


def sentinel(target: ServerUrl) -> Sentinel:
    """The sentinels of a server that is known to some; they have logins of their own."""
    options = client_options(target) | {"db": target.db}
    asking = {**options, "username": None, "password": None, "db": 0, **target.sentinel_login}
    asking |= {"socket_timeout": _SENTINEL_SECONDS, "socket_connect_timeout": _SENTINEL_SECONDS}
    return Sentinel(target.hosts, sentinel_kwargs=asking, **options)  # type: ignore[no-untyped-call]


def _never() -> Retry:
    return Retry(NoBackoff(), 0)
