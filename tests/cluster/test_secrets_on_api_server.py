"""A Secret with the server's URL is changed by hand: what a running operator makes of it, and how soon."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from cluster.test_reconcile_on_api_server import applied, condition, listed, manifest
from headgate_operator.cluster import Cluster
from headgate_operator.operator import Operator
from headgate_operator.settings import OperatorSettings
from streams.fleets import single

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cluster.apiserver import ApiServer
    from streams.fleets import Node

ROUND_SECONDS = 1.0
NEVER = 3600.0
SOON = 60.0
"""Far below the 300 s after which an unchanged pipeline is looked over."""


class Counting(Cluster):
    """Counts the calls for each Secret, made by whom."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self.by_rounds: Counter[str] = Counter()

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
        task = asyncio.current_task()
        if kind == "Secret" and task is not None and task.get_name() == "secrets":
            self.by_rounds[name] += 1
        return await super().get(api_version, kind, namespace, name)


@pytest.fixture
def node() -> Iterator[Node]:
    with single() as running:
        running.call("ACL", "SETUSER", "first", "on", ">one", "allkeys", "allcommands")
        running.call("ACL", "SETUSER", "second", "on", ">two", "allkeys", "allcommands")
        yield running


@pytest.fixture
async def counting(api: Cluster) -> AsyncIterator[Counting]:
    made = Counting(api.configuration)
    yield made
    await made.aclose()


@contextlib.asynccontextmanager
async def operator(cluster: Cluster, secret_seconds: float, redis_url: str | None = None):
    """One in this process, as its command would run it."""
    stop = asyncio.Event()
    settings = OperatorSettings(
        metrics_port=0, health_port=0, secret_seconds=secret_seconds, redis_url=redis_url
    )
    running = asyncio.create_task(Operator(settings, cluster, on_watching=lambda: None).run(stop))
    try:
        yield running
    finally:
        stop.set()
        await running


def login(node: Node, user: str, password: str) -> str:
    return node.url.replace("://", f"://{user}:{password}@")


def secret(server: ApiServer, name: str, url: str) -> None:
    applied(
        server,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"url": url}},
    )


def naming(name: str, secret_name: str) -> dict[str, Any]:
    given = manifest(name, only={})
    given["spec"]["redis"] = {"secretRef": {"name": secret_name}}
    return given


def fingerprint(server: ApiServer, name: str) -> str:
    found = listed(server, "deployments", name)
    templates = [item["spec"]["template"]["metadata"]["annotations"] for item in found]
    return templates[0]["headgate.dev/redis-fingerprint"] if templates else ""


async def until(check: Callable[[], object], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(check):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        await asyncio.sleep(0.1)


async def until_ready(server: ApiServer, *names: str) -> None:
    for name in names:
        await until(lambda name=name: condition(server, name, "Ready") == "True/Ready")


def delete(server: ApiServer, *names: str) -> None:
    assert server.kubectl("delete", "fanoutpipeline", *names, "--timeout=60s").returncode == 0


async def test_workers_are_rolled_over_when_the_secret_is_changed_though_the_old_login_still_works(
    api_server, counting, node
):
    secret(api_server, "shared", login(node, "first", "one"))
    secret(api_server, "another", login(node, "first", "one"))
    for name, named in {"rolls-a": "shared", "rolls-b": "shared", "rolls-not": "another"}.items():
        applied(api_server, naming(name, named))
    async with operator(counting, ROUND_SECONDS):
        await until_ready(api_server, "rolls-a", "rolls-b", "rolls-not")
        unchanged = fingerprint(api_server, "rolls-not")
        before = {name: fingerprint(api_server, name) for name in ("rolls-a", "rolls-b")}
        secret(api_server, "shared", login(node, "second", "two"))
        for name, old in before.items():
            await until(lambda name=name, old=old: fingerprint(api_server, name) != old)
        written = {name: fingerprint(api_server, name) for name in before}
        counting.by_rounds.clear()
        await until(lambda: counting.by_rounds["another"] > 3)
        assert abs(counting.by_rounds["shared"] - counting.by_rounds["another"]) <= 1, "one call a Secret"
        assert {name: fingerprint(api_server, name) for name in before} == written
        assert fingerprint(api_server, "rolls-not") == unchanged
        await asyncio.to_thread(delete, api_server, "rolls-a", "rolls-b", "rolls-not")


async def test_a_login_that_is_refused_has_the_secret_read_at_once(api_server, counting, node):
    secret(api_server, "rotated", login(node, "first", "one"))
    applied(api_server, naming("refused-login", "rotated"))
    async with operator(counting, NEVER):
        await until_ready(api_server, "refused-login")
        old = fingerprint(api_server, "refused-login")
        secret(api_server, "rotated", login(node, "second", "two"))
        node.call("ACL", "DELUSER", "first")
        await until(lambda: fingerprint(api_server, "refused-login") != old)
        await until_ready(api_server, "refused-login")
        await asyncio.to_thread(delete, api_server, "refused-login")


async def test_a_secret_that_is_put_right_late_is_found_and_that_the_server_is_back_is_told(
    api_server, counting, node
):
    secret(api_server, "late", login(node, "first", "one"))
    applied(api_server, naming("late-login", "late"))
    async with operator(counting, ROUND_SECONDS):
        await until_ready(api_server, "late-login")
        node.call("ACL", "DELUSER", "first")
        await until(
            lambda: condition(api_server, "late-login", "RedisReachable") == "False/ServerUnavailable"
        )
        secret(api_server, "late", login(node, "second", "two"))
        await until_ready(api_server, "late-login")
        await asyncio.to_thread(delete, api_server, "late-login")


async def test_pipelines_on_the_operators_own_server_cost_no_reading(api_server, counting, node):
    applied(api_server, manifest("names-none", only={}))
    async with operator(counting, 0.1, node.url):
        await until_ready(api_server, "names-none")
        secret(api_server, "named", login(node, "first", "one"))
        applied(api_server, naming("names-one", "named"))
        await until_ready(api_server, "names-one")
        await until(lambda: counting.by_rounds["named"] > 2)
        assert not [name for name in counting.by_rounds if name.startswith("names-none")]
        await asyncio.to_thread(delete, api_server, "names-none", "names-one")
