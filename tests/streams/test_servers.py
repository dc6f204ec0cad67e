"""The servers the tests run on are what they claim to be."""

from __future__ import annotations

import contextlib

import redis

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


def test_the_cluster_spreads_keys_over_three_masters_and_flush_reaches_all(cluster_url):
    with contextlib.closing(
        redis.RedisCluster.from_url(cluster_url.replace("redis+cluster", "redis"))
    ) as client:
        for number in range(60):
            client.set(f"key-{number}", number)
        sizes = client.dbsize(target_nodes="primaries")
        flush(cluster_url)
        left = client.dbsize(target_nodes="primaries")
    assert sizes == 60
    assert left == 0
