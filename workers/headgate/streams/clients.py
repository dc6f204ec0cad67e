"""The client library's clients: of one server, of a master that sentinels know, of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from headgate.streams.url import ServerUrl

SOCKET_SECONDS = 5.0
_SENTINEL_SECONDS = 1.0  # a sentinel that says nothing is passed over


def client(target: ServerUrl) -> tuple[Any, Sentinel | None]:
    """A client, which connects on first use, and the sentinels that it asks, if any."""
    options = client_options(target)
    if target.is_cluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in target.hosts], **options
        ), None
    if target.service is not None:
        asked = sentinel(target)
        return asked.master_for(target.service), asked
    options["db"] = target.db
    if target.path is not None:
        return redis.Redis(unix_socket_path=target.path, **options), None
    ((host, port),) = target.hosts
    return redis.Redis(host=host, port=port, **options), None


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
