"""What keeps pipelines apart, on a real API server: pods under its own admission, NetworkPolicies as it takes them."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from cluster.test_reconcile_on_api_server import (
    Plane,
    applied,
    cluster,
    listed,
    manifest,
    redis_url,
    restarted,
)
from headgate_operator.manifests import RedisSource, children
from headgate_operator.manifests.overlay import merge
from headgate_operator.manifests.pod_security import violations
from unit.pipelines import pipeline
from unit.pods import ALLOWED, FORBIDDEN

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer

__all__ = ["Plane", "cluster", "redis_url", "restarted"]  # fixtures, and what they make

REDIS = RedisSource("redis-url", key="url", url="redis://elsewhere:6379", owned=False)


@pytest.fixture(scope="module")
def strict(api_server: ApiServer) -> str:
    """A namespace that admits pods of the Pod Security Standard `restricted` only."""
    name = "strict"
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    applied(
        api_server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}}
    )
    account = {"namespace": name, "name": "orders-workers"}
    applied(api_server, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"}}
    applied(api_server, priority | {"value": 10})
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}}
    applied(api_server, runtime | {"handler": "runsc"})
    return name


def pod(**branch: Any) -> dict[str, Any]:
    (deployment,) = children(pipeline(branch), REDIS, "pushing:1").deployments.values()
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def refusal(server: ApiServer, namespace: str, spec: dict[str, Any]) -> str:
    """What the API server has against the pod; empty when it would take it."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "tried"},
        "spec": spec,
    }
    done = server.kubectl("create", "--dry-run=server", "-f", "-", given=body)
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("name", ["", *ALLOWED])
def test_every_pod_that_an_overlay_may_make_is_admitted_as_restricted(
    api_server: ApiServer, strict: str, name: str
) -> None:
    overlay = {"pod": {"overlay": copy.deepcopy(ALLOWED[name])}} if name else {}
    assert refusal(api_server, strict, pod(**overlay)) == ""


def test_pods_of_every_kind_of_handler_are_admitted_as_restricted(api_server: ApiServer, strict: str) -> None:
    url = {"http": {"url": "https://hooks.example", "signingSecretRef": {"name": "hooks"}}}
    for handler in (url, {"container": {"image": "own:1"}}):
        assert refusal(api_server, strict, pod(handler=handler)) == ""


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_refused_to_overlays_is_what_the_admission_refuses(
    api_server: ApiServer, strict: str, name: str
) -> None:
    overlay, *_ = FORBIDDEN[name]
    spec = merge(pod(), overlay)  # what the guard in front of it would not let through
    assert violations(spec)
    assert 'violates PodSecurity "restricted' in refusal(api_server, strict, spec)


async def test_an_overlay_that_is_refused_is_told_and_nothing_is_written(
    api_server, cluster, restarted, redis_url
):
    given = manifest("overlaid", only={"pod": {"overlay": {"hostNetwork": True}}})
    findings = await restarted(cluster, redis_url).reconcile(applied(api_server, given))
    assert findings.workers.reason == "PodRefused"
    assert "spec.branches[0].pod.overlay.hostNetwork: Invalid value: true" in findings.workers.message
    assert listed(api_server, "deployments", "overlaid") == []


async def test_an_overlay_is_applied_once(api_server, cluster, restarted, redis_url):
    overlay = {**ALLOWED["sidecar"], "initContainers": [{"name": "warm", "image": "warm:1"}]}
    pods = {"overlay": overlay, "labels": {"team": "video"}, "annotations": {"note": "x"}}
    given = applied(api_server, manifest("sidecars", only={"pod": pods}))
    plane = restarted(cluster, redis_url)
    assert (await plane.reconcile(given)).clean
    (deployment,) = listed(api_server, "deployments", "sidecars")
    template = deployment["spec"]["template"]
    assert [each["name"] for each in template["spec"]["containers"]] == ["worker", "log"]
    assert template["metadata"]["labels"]["team"] == "video"
    for again in (plane, restarted(cluster, redis_url)):
        assert (await again.reconcile(given)).writes == 0


async def test_a_network_policy_comes_changes_and_goes_with_its_field(
    api_server, cluster, restarted, redis_url
):
    given = manifest("fenced", only={})
    given["spec"]["networkPolicy"] = {"egress": [{"cidr": "203.0.113.0/24", "ports": [443]}]}
    plane = restarted(cluster, redis_url)
    assert (await plane.reconcile(applied(api_server, given))).clean
    (found,) = listed(api_server, "networkpolicies", "fenced")
    assert found["spec"]["podSelector"] == {"matchLabels": {"headgate.dev/pipeline": "fenced"}}
    assert found["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert found["spec"]["ingress"] == [{"ports": [{"port": 9100, "protocol": "TCP"}]}]
    assert found["spec"]["egress"][0]["ports"] == [
        {"port": 53, "protocol": "UDP"},
        {"port": 53, "protocol": "TCP"},
    ]
    assert found["spec"]["egress"][1] == {
        "ports": [{"port": int(redis_url.rpartition(":")[2]), "protocol": "TCP"}]
    }
    assert found["spec"]["egress"][2]["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    for again in (plane, restarted(cluster, redis_url)):
        assert (await again.reconcile(json.loads(json.dumps(applied(api_server, given))))).writes == 0
    given["spec"]["networkPolicy"] = {"egress": []}
    assert (await plane.reconcile(applied(api_server, given))).writes == 1
    (found,) = listed(api_server, "networkpolicies", "fenced")
    assert len(found["spec"]["egress"]) == 2
    del given["spec"]["networkPolicy"]
    assert (await restarted(cluster, redis_url).reconcile(applied(api_server, given))).writes == 1
    assert listed(api_server, "networkpolicies", "fenced") == []
