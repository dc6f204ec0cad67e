"""Taking a pipeline down when not all of it can be read or reached: its user and its keys go as far as they can."""

from __future__ import annotations

import base64
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

from cluster.test_credentials_on_api_server import node, plane
from cluster.test_reconcile_on_api_server import applied, listed, manifest
from headgate_operator.pipeline import ManifestError, load_pipeline
from headgate_operator.recorder import Recorder
from headgate_operator.removal import Remover
from streams.fleets import single

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer
    from streams.fleets import Node

__all__ = ["node"]  # a fixture


def keys(node: Node, name: str) -> list[bytes]:
    return node.call("KEYS", f"hg:{{default/{name}:*")


def users(node: Node) -> list[str]:
    return node.call("ACL", "USERS")


def unreadable(given: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The same as another version may have stored it, before this one's rules."""
    changed = given | {"spec": given["spec"] | {"branches": [{"name": "A Name Of Old"}]} | spec}
    with pytest.raises(ManifestError):
        load_pipeline(changed)
    return changed


def events(server: ApiServer, name: str) -> set[str]:
    done = server.kubectl("get", "events.v1.events.k8s.io", "-o", "json")
    return {item["reason"] for item in json.loads(done.stdout)["items"] if item["regarding"]["name"] == name}


async def remove(operator: Any, api: Any, given: dict[str, Any]) -> None:
    await Remover(operator.substrate, operator.servers, Recorder(api, "operator-1")).remove(given)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "after-a-restart"])
async def test_a_manifest_that_this_version_cannot_read_leaves_no_worker_key_or_user(
    api_server, api, node, is_known
):
    name = f"of-old-{is_known}".lower()
    given = applied(api_server, manifest(name, only={}))
    async with plane(api, node) as operator:
        await operator.reconcile(given)
        assert keys(node, name)
        assert f"headgate.default.{name}" in users(node)
        if is_known:
            await remove(operator, api, unreadable(given))
    if not is_known:
        async with plane(api, node) as successor:
            await remove(successor, api, unreadable(given))
    assert keys(node, name) == []
    assert f"headgate.default.{name}" not in users(node)
    assert listed(api_server, "deployments", name) == []
    assert events(api_server, name) == set()


@pytest.mark.parametrize("redis", [{"secretRef": {"name": "theirs"}}, {"secretRef": "theirs"}])
async def test_its_keys_are_looked_for_where_its_manifest_says_or_else_on_the_operators_server(
    api_server, api, node, redis
):
    with single() as theirs:
        url = base64.b64encode(theirs.url.encode()).decode()
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"}, "data": {"url": url}}
        applied(api_server, secret)
        name = "elsewhere"
        for server in (theirs, node):
            server.call("SET", "hg:{default/elsewhere:0}:settings", "something")
        given = applied(api_server, manifest(name, only={}))
        async with plane(api, node) as operator:
            await remove(operator, api, unreadable(given, redis=redis))
        is_readable = isinstance(redis["secretRef"], dict)
        assert (keys(theirs, name) == []) == is_readable
        assert (keys(node, name) == []) != is_readable


async def test_a_user_goes_though_the_keys_could_not(api_server, api, node):
    given = applied(api_server, manifest("stays", only={}))
    async with plane(api, node) as operator:
        await operator.reconcile(given)
        node.call("ACL", "SETUSER", "operator", "-unlink")
        await remove(operator, api, given)
    assert keys(node, "stays")
    assert "headgate.default.stays" not in users(node)
    assert events(api_server, "stays") == {"KeysLeft"}


async def test_nothing_is_remembered_of_users_that_are_gone(api_server, api, node):
    async with plane(api, node) as operator:
        for number in range(3):
            given = applied(api_server, manifest(f"passing-{number}", only={}))
            await operator.reconcile(given)
            await remove(operator, api, given)
        gc.collect()
        assert len(operator.users._locks) == 0
