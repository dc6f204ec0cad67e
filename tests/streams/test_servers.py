"""The servers the tests run on are what they claim to be."""

from __future__ import annotations

import contextlib

import redis

from headgate.streams import Server
from streams.servers import flush


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url.replace("redis+cluster://", "redis://"))


def test_every_server_starts_empty_and_is_flushed(server_url):
    with contextlib.closing(_client(server_url)) as client:
        assert client.dbsize() == 0
        client.script_load("#!lua\nreturn 1")
        flush(server_url)
        assert client.info("memory")["number_of_cached_scripts"] == 0


def test_redis_is_version_7(redis7_url):
    with contextlib.closing(_client(redis7_url)) as client:
        assert client.info("server")["redis_version"].startswith("7.")


def test_valkey_is_valkey(valkey_url):
    with contextlib.closing(_client(valkey_url)) as client:
        assert client.info("server")["server_name"] == "valkey"


async def test_the_cluster_spreads_keys_over_three_masters_and_flush_reaches_all(cluster_url):
    server = Server.connect(cluster_url)
    names = [f"key-{number}" for number in range(60)]
    for name in names:
        await server.execute(name, "SET", name, 1)
    nodes = {await server.address(name) for name in names}
    found = [key async for key in server.scan("*")]
    flush(cluster_url)
    left = [key async for key in server.scan("*")]
    await server.aclose()
    assert len(nodes) == 3
    assert sorted(found) == sorted(name.encode() for name in names)
    assert left == []
