"""Users and passwords of pipelines on a real API server and a real Redis: made, kept, replaced, removed, not shown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from cluster.test_reconcile_on_api_server import (
    HEADGATE,
    DyingCluster,
    applied,
    condition,
    eventually,
    kubeconfig_of_operator,
    listed,
    manifest,
)
from headgate_operator.logins import ROTATE
from headgate_operator.reconcile import Findings, reconcile
from headgate_operator.servers import Servers
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from headgate_operator.users import UserKeeper
from streams.fleets import single
from streams.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.apiserver import ApiServer
    from headgate.streams import Server
    from headgate_operator.cluster import Cluster
    from headgate_operator.pipeline import Pipeline
    from streams.fleets import Node

OPERATORS = "the-operators-own-password"


@pytest.fixture
def node() -> Iterator[Node]:
    """A server with a user for the operator beside the default one."""
    with single() as running:
        running.call("ACL", "SETUSER", "operator", "on", f">{OPERATORS}", "allkeys", "allcommands")
        yield running


class Plane:
    """One operator's memory: a fresh one is a restarted operator."""

    def __init__(self, api: Cluster, node: Node) -> None:
        url = node.url.replace("://", f"://operator:{OPERATORS}@")
        self.users = UserKeeper(url)
        self.substrate = KubernetesSubstrate(api, url, users=self.users)
        self.servers = Servers()

    async def reconcile(self, given: dict[str, Any]) -> Findings:
        return await reconcile(given, substrate=self.substrate, connect=self._connect)

    async def _connect(self, pipeline: Pipeline) -> Server:
        return await self.servers.assign(pipeline, (await self.substrate.redis(pipeline)).url)

    async def aclose(self) -> None:
        await self.servers.aclose()
        await self.users.aclose()


@contextlib.asynccontextmanager
async def plane(api: Cluster, node: Node):
    made = Plane(api, node)
    try:
        yield made
    finally:
        await made.aclose()


def secret(server: ApiServer, name: str) -> dict[str, str]:
    found = listed(server, "secrets", name)
    return {key: base64.b64decode(value).decode() for item in found for key, value in item["data"].items()}


def works(node: Node, name: str, password: str) -> bool:
    with contextlib.closing(
        redis.Redis(port=node.port, username=f"headgate.default.{name}", password=password)
    ) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def rotated(name: str, to: str) -> dict[str, Any]:
    given = manifest(name, only={})
    given["metadata"]["annotations"] = {ROTATE: to}
    return given


def pod_of(server: ApiServer, name: str, pod: str) -> None:
    """A pod as the Deployment's controller would make it now."""
    (deployment,) = listed(server, "deployments", name)
    template = deployment["spec"]["template"]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | {"name": pod}}
    applied(server, body | {"spec": template["spec"]})


def delete_pod(server: ApiServer, pod: str) -> None:
    assert server.kubectl("delete", "pod", pod, "--force", "--grace-period=0").returncode == 0


async def test_workers_get_a_user_of_their_pipelines_own_and_never_the_operators(api_server, api, node):
    given = applied(api_server, manifest("lodger", only={}))
    async with plane(api, node) as first:
        assert (await first.reconcile(given)).clean
    kept = secret(api_server, "lodger")
    assert kept["username"] == "headgate.default.lodger"
    assert kept["url"] == f"redis://headgate.default.lodger:{kept['password']}@127.0.0.1:{node.port}"
    assert works(node, "lodger", kept["password"])
    assert OPERATORS not in str(kept)
    async with plane(api, node) as successor:
        findings = await successor.reconcile(given)
        assert (findings.clean, findings.writes) == (True, 0)
    assert secret(api_server, "lodger") == kept


async def test_a_server_that_forgot_the_user_is_told_again_by_the_guard_and_by_a_pass(api_server, api, node):
    given = applied(api_server, manifest("forgotten", only={}))
    async with plane(api, node) as first:
        await first.reconcile(given)
        password = secret(api_server, "forgotten")["password"]
        node.call("ACL", "DELUSER", "headgate.default.forgotten")
        assert await first.users.look() == 1
        assert works(node, "forgotten", password)
        assert await first.users.look() == 0
        node.call("ACL", "SETUSER", "headgate.default.forgotten", "+@all")
        await first.reconcile(given)
        assert "-@all" in node.call("ACL", "GETUSER", "headgate.default.forgotten")["commands"]
        await first.substrate.dismiss(first_pipeline(given))
        assert await first.users.look() == 0
    assert not works(node, "forgotten", password)


def first_pipeline(given: dict[str, Any]) -> Pipeline:
    from headgate_operator.pipeline import load_pipeline  # noqa: PLC0415 - of one test

    return load_pipeline(given)


async def test_a_password_is_replaced_while_workers_hold_the_old_one_and_goes_when_none_does(
    api_server, api, node
):
    async with plane(api, node) as operator:
        await operator.reconcile(applied(api_server, manifest("turning", only={})))
        old = secret(api_server, "turning")["password"]
        pod_of(api_server, "turning", "turning-old")
        given = applied(api_server, rotated("turning", "tuesday"))
        assert (await operator.reconcile(given)).writes == 2  # the Secret, the Deployment
        kept = secret(api_server, "turning")
        new = kept["password"]
        assert (kept["previous"], kept["rotation"]) == (old, "tuesday")
        assert new != old
        pod_of(api_server, "turning", "turning-new")
        for _ in range(2):
            assert (await operator.reconcile(given)).writes == 0
            assert operator.substrate.rotating("default", "turning")
            assert works(node, "turning", old)
            assert works(node, "turning", new)
        delete_pod(api_server, "turning-old")
        assert (await operator.reconcile(given)).writes == 1
        assert not operator.substrate.rotating("default", "turning")
        assert "previous" not in secret(api_server, "turning")
        assert works(node, "turning", new)
        assert not works(node, "turning", old)
        delete_pod(api_server, "turning-new")


async def test_a_rotation_killed_after_any_call_goes_on_and_nobody_is_ever_locked_out(api_server, api, node):
    dying = DyingCluster(api.configuration)
    try:
        for calls in range(60):
            name = f"halting-{calls}"
            async with plane(api, node) as operator:
                await operator.reconcile(applied(api_server, manifest(name, only={})))
            old = secret(api_server, name)["password"]
            pod_of(api_server, name, name)
            given = applied(api_server, rotated(name, "tuesday"))
            dying.calls_left = calls
            async with plane(dying, node) as victim:
                with contextlib.suppress(asyncio.CancelledError):
                    await victim.reconcile(given)
                    await victim.reconcile(given)
            finished = dying.calls_left > 0
            assert works(node, name, old), f"killed after {calls} calls"
            assert works(node, name, secret(api_server, name)["password"]), f"killed after {calls} calls"
            delete_pod(api_server, name)
            async with plane(api, node) as successor:
                for _ in range(3):
                    assert (await successor.reconcile(given)).clean
                assert not successor.substrate.rotating("default", name)
            kept = secret(api_server, name)
            assert "previous" not in kept
            assert kept["rotation"] == "tuesday"
            assert works(node, name, kept["password"])
            assert not works(node, name, old)
            assert api_server.kubectl("delete", "fanoutpipeline", name).returncode == 0
            if finished:
                break
        else:
            pytest.fail("two passes take 60 calls")
    finally:
        await dying.aclose()
    assert calls > 5


async def test_a_password_waits_for_a_server_that_is_away(api_server, api):
    with single() as node:
        async with plane(api, node) as operator:
            node.call("ACL", "SETUSER", "operator", "on", f">{OPERATORS}", "allkeys", "allcommands")
            await operator.reconcile(applied(api_server, manifest("waiting", only={})))
            kept = secret(api_server, "waiting")
            given = applied(api_server, rotated("waiting", "tuesday"))
            node.kill()
            assert (await operator.reconcile(given)).redis is not None
            assert secret(api_server, "waiting") == kept
            assert operator.substrate.rotating("default", "waiting")
            node.revive()
            node.call("ACL", "SETUSER", "operator", "on", f">{OPERATORS}", "allkeys", "allcommands")
            for _ in range(2):
                await operator.reconcile(given)
            assert secret(api_server, "waiting")["rotation"] == "tuesday"


async def test_a_server_that_takes_no_users_is_told_with_what_to_do(api_server, api, node):
    node.call("ACL", "SETUSER", "operator", "-acl")
    async with plane(api, node) as operator:
        findings = await operator.reconcile(applied(api_server, manifest("refused", only={})))
    assert findings.workers is not None
    assert findings.workers.reason == "UsersRefused"
    assert "+acl|setuser" in findings.workers.message
    assert "redis.users=false" in findings.workers.message
    assert listed(api_server, "secrets,deployments", "refused") == []


class Running:
    """`headgate operator` as a process, with the rights that are documented."""

    def __init__(self, server: ApiServer, log: Path, url: str | None, **environment: str) -> None:
        self.log = log
        kubeconfig = kubeconfig_of_operator(server, everywhere=True)
        variables = {**os.environ, "KUBECONFIG": str(kubeconfig), **environment}
        if url is not None:
            variables["HEADGATE_REDIS_URL"] = url
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [HEADGATE, "operator", "--metrics-port", "0", "--health-port", "0"],
                env=variables,
                stderr=sink,
                stdout=sink,
            )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def test_the_user_goes_with_its_pipeline(api_server, node, tmp_path):
    running = Running(api_server, tmp_path / "log", node.url.replace("://", f"://operator:{OPERATORS}@"))
    try:
        applied(api_server, manifest("leaving", only={}))
        eventually(lambda: condition(api_server, "leaving", "Ready") == "True/Ready", 60)
        assert "headgate.default.leaving" in node.call("ACL", "USERS")
        node.call("ACL", "DELUSER", "headgate.default.leaving")
        eventually(lambda: "headgate.default.leaving" in node.call("ACL", "USERS"))
        assert api_server.kubectl("delete", "fanoutpipeline", "leaving", "--timeout=60s").returncode == 0
        assert "headgate.default.leaving" not in node.call("ACL", "USERS")
    finally:
        running.stop()


def test_a_running_operator_answers_the_annotation(api_server, node, tmp_path):
    running = Running(api_server, tmp_path / "log", node.url.replace("://", f"://operator:{OPERATORS}@"))
    try:
        applied(api_server, manifest("asked", only={}))
        eventually(lambda: condition(api_server, "asked", "Ready") == "True/Ready", 60)
        old = secret(api_server, "asked")["password"]
        assert api_server.kubectl("annotate", "fanoutpipeline", "asked", f"{ROTATE}=tuesday").returncode == 0
        eventually(lambda: secret(api_server, "asked").get("rotation") == "tuesday", 60)
        eventually(lambda: "previous" not in secret(api_server, "asked"), 60)
        eventually(lambda: not works(node, "asked", old), 60)
        assert works(node, "asked", secret(api_server, "asked")["password"])
        assert api_server.kubectl("delete", "fanoutpipeline", "asked", "--timeout=60s").returncode == 0
    finally:
        running.stop()


def test_no_password_is_in_logs_status_events_or_any_object_but_the_secret(api_server, node, tmp_path):
    """A pipeline with every kind of failure at its server, and one on the operator's."""
    theirs = "a-password-that-is-nowhere-else"
    node.call("ACL", "SETUSER", "weak", "on", f">{theirs}", "allkeys", "+ping")
    urls = {
        "leak-wrong": f"redis://operator:{theirs}@127.0.0.1:{node.port}/0?client_name={theirs}",
        "leak-away": f"redis://:{theirs}@127.0.0.1:{free_port()}",
        "leak-refused": f"redis://weak:{theirs}@127.0.0.1:{node.port}",
        "leak-no-url": f"rediss//operator:{theirs}@127.0.0.1",
        "leak-bad-port": f"redis://operator:{theirs}@127.0.0.1:port",
        "leak-database": f"redis://weak:{theirs}@127.0.0.1:{node.port}/none",
    }
    running = Running(api_server, tmp_path / "log", node.url.replace("://", f"://operator:{OPERATORS}@"))
    try:
        for name, url in urls.items():
            applied(
                api_server,
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name},
                    "stringData": {"url": url},
                },
            )
            given = manifest(name, only={})
            given["spec"]["redis"] = {"secretRef": {"name": name}}
            given["spec"]["networkPolicy"] = {}
            applied(api_server, given)
        applied(api_server, manifest("leak-none", only={}))
        for name in urls:
            eventually(
                lambda name=name: condition(api_server, name, "RedisReachable").startswith("False/"), 60
            )
        eventually(lambda: condition(api_server, "leak-none", "Ready") == "True/Ready", 60)
        own = secret(api_server, "leak-none")["password"]
        eventually(lambda: told(api_server, *urls), 60)
        kinds = "fanoutpipelines,deployments,serviceaccounts,networkpolicies,events.v1.events.k8s.io"
        shown = api_server.kubectl("get", kinds, "-A", "-o", "json", "--show-managed-fields").stdout
        assert len(json.loads(shown)["items"]) > 3 * len(urls)
        arguments = Path(f"/proc/{running.process.pid}/cmdline").read_text()
        for text in (shown, running.log.read_text(), arguments):
            for password in (theirs, OPERATORS, own):
                at = text.find(password)
                assert at < 0, text[max(0, at - 300) : at + 100]
        for name in urls:
            assert api_server.kubectl("delete", "fanoutpipeline", name, "--timeout=90s").returncode == 0
        assert theirs not in running.log.read_text()
    finally:
        running.stop()


def told(server: ApiServer, *names: str) -> bool:
    """Whether there is an event about each of these pipelines."""
    done = server.kubectl("get", "events.v1.events.k8s.io", "-o", "json")
    about = {item["regarding"]["name"] for item in json.loads(done.stdout)["items"]}
    return about >= set(names)
