"""What the chart renders, by helm alone: the rights that are documented and no others, and settings that arrive."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cluster.test_reconcile_on_api_server import documented_rules

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer

ROOT = Path(__file__).parents[2]
Rights = set[tuple[str, str, str]]
_NAMESPACE = "headgate-system"


class Chart:
    """The chart, rendered with some values."""

    def __init__(self, helm: str, *values: str, json_value: str | None = None) -> None:
        options = [part for value in values for part in ("--set", value)]
        options += ["--set-json", json_value] if json_value is not None else []
        self.done = subprocess.run(
            [helm, "template", "hg", str(ROOT / "charts/headgate"), "-n", _NAMESPACE, *options],
            capture_output=True,
            text=True,
            check=False,
        )

    def objects(self, kind: str) -> list[dict[str, Any]]:
        assert self.done.returncode == 0, self.done.stderr
        found = (item for item in yaml.safe_load_all(self.done.stdout) if item)
        return [item for item in found if item["kind"] == kind]

    def environment(self) -> dict[str, Any]:
        (deployment,) = self.objects("Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def rights(rules: list[dict[str, Any]]) -> Rights:
    """Group, resource and verb of every right, once; those on one object only have its name behind the resource."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def derived_slowly(secret: str, counter: int, user: str, site: str) -> str:
    """A password of 20 characters by the Master Password algorithm: one guess takes 32 MiB and 0.1 s."""
    groups = {
        "a": "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        "n": "0123456789",
        "o": "@&%?,=[]_:-+*$#!'^~;()/.",
        "x": "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
    shapes = ("anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno")
    scope = b"com.lyndir.masterpassword"
    salt = scope + len(user).to_bytes(4, "big") + user.encode()
    key = hashlib.scrypt(secret.encode(), salt=salt, n=32768, r=8, p=2, dklen=64, maxmem=1 << 27)
    told = scope + len(site).to_bytes(4, "big") + site.encode() + counter.to_bytes(4, "big")
    seed = hmac.digest(key, told, "sha256")
    shape = shapes[seed[0] % len(shapes)]
    return "".join(groups[kind][seed[n] % len(groups[kind])] for n, kind in enumerate(shape, 1))


def work_and_lease() -> tuple[Rights, Rights]:
    work, lease = documented_rules()
    return rights(work), rights(lease)


def test_with_the_whole_cluster_to_look_after_it_grants_what_is_documented(helm: str) -> None:
    chart = Chart(helm)
    (everywhere,) = chart.objects("ClusterRole")
    (own,) = chart.objects("Role")
    work, lease = work_and_lease()
    assert rights(everywhere["rules"]) == work
    assert rights(own["rules"]) == lease
    assert own["metadata"]["namespace"] == _NAMESPACE
    assert len(chart.objects("ClusterRoleBinding")) == len(chart.objects("RoleBinding")) == 1


def test_with_namespaces_to_look_after_it_grants_the_same_there_and_nothing_else(helm: str) -> None:
    chart = Chart(helm, "watchNamespaces={shop,videos}")
    assert chart.objects("ClusterRole") == chart.objects("ClusterRoleBinding") == []
    work, lease = work_and_lease()
    found = {role["metadata"]["namespace"]: rights(role["rules"]) for role in chart.objects("Role")}
    assert found == {"shop": work, "videos": work, _NAMESPACE: lease}
    (deployment,) = chart.objects("Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [after for before, after in pairwise(arguments) if before == "--namespace"] == [
        "shop",
        "videos",
    ]


@pytest.mark.parametrize("values", [(), ("watchNamespaces={shop}",)])
def test_every_grant_is_to_the_operators_account_alone(helm: str, values: tuple[str, ...]) -> None:
    chart = Chart(helm, *values)
    (account,) = chart.objects("ServiceAccount")
    name = account["metadata"]["name"]
    roles = {
        (role["kind"], role["metadata"]["name"])
        for kind in ("Role", "ClusterRole")
        for role in chart.objects(kind)
    }
    for binding in (*chart.objects("RoleBinding"), *chart.objects("ClusterRoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": _NAMESPACE}]
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles
    assert chart.environment()["HEADGATE_SERVICE_ACCOUNT"] == name


def test_no_right_is_a_wildcard_and_secrets_are_never_listed(helm: str) -> None:
    (everywhere,) = Chart(helm).objects("ClusterRole")
    granted = rights(everywhere["rules"])
    assert not any("*" in part for right in granted for part in right)
    assert {verb for _, resource, verb in granted if resource == "secrets"} == {
        "get",
        "create",
        "patch",
        "delete",
    }
    assert not any(
        resource in {"roles", "rolebindings", "clusterroles", "pods/exec"} for _, resource, _ in granted
    )


def test_settings_reach_the_operator(helm: str) -> None:
    plain = Chart(helm).environment()
    assert plain["HEADGATE_REDIS_USERS"] == "true"
    assert plain["HEADGATE_ALLOW_PRIVILEGED"] == "false"
    assert plain["HEADGATE_MAX_WORKERS_PER_NAMESPACE"] == "0"
    values = ("redis.users=false", "worker.allowPrivileged=true", "worker.mostPerNamespace=2000000")
    changed = Chart(helm, *values).environment()
    assert changed["HEADGATE_REDIS_USERS"] == "false"
    assert changed["HEADGATE_ALLOW_PRIVILEGED"] == "true"
    assert changed["HEADGATE_MAX_WORKERS_PER_NAMESPACE"] == "2000000"


@pytest.mark.parametrize(
    "value",
    ["redis.users=maybe", "worker.allowPrivileged=1", "worker.mostPerNamespace=-1", "worker.privileged=true"],
)
def test_a_value_that_means_nothing_is_refused(helm: str, value: str) -> None:
    done = Chart(helm, value).done
    assert done.returncode != 0
    assert value.partition("=")[0].rpartition(".")[2] in done.stderr


def test_the_servers_password_is_in_its_secret_only(helm: str) -> None:
    chart = Chart(helm, "redis.url=redis://operator:a-known-password@store:6379")
    (secret,) = chart.objects("Secret")
    assert "a-known-password" not in chart.done.stdout
    assert chart.environment()["HEADGATE_REDIS_URL"] == {
        "secretKeyRef": {"name": secret["metadata"]["name"], "key": "url"}
    }


def pod_annotations(helm: str, *values: str) -> dict[str, str]:
    (deployment,) = Chart(helm, *values).objects("Deployment")
    found: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
    return found


def test_pods_are_made_anew_when_the_servers_url_changes_and_only_then(helm: str) -> None:
    one, other = "redis.url=redis://x:a-known-password@store", "redis.url=redis://x:another@store"
    before = pod_annotations(helm, one)
    assert pod_annotations(helm, one) == before
    assert pod_annotations(helm, one, "dashboards.enabled=true") == before
    assert pod_annotations(helm, other) != before
    assert not any("redis" in name for name in pod_annotations(helm))


def test_a_servers_password_cannot_be_guessed_fast_from_what_marks_its_change(helm: str) -> None:
    url = "redis://operator:a-known-password@store:6379"
    found = pod_annotations(helm, f"redis.url={url}")
    assert found["headgate.dev/redis-fingerprint"] == derived_slowly(url, 1, f"{_NAMESPACE}/hg", "redis.url")
    assert found.keys() == pod_annotations(helm).keys() | {"headgate.dev/redis-fingerprint"}


def test_replicas_are_spread_over_nodes_as_far_as_there_are_nodes(helm: str) -> None:
    (deployment,) = Chart(helm).objects("Deployment")
    (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    assert spread["labelSelector"] == deployment["spec"]["selector"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        [
            {
                "topologyKey": "zone",
                "maxSkew": 2,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"a": "b"}},
            }
        ],
    ],
    ids=["none", "another"],
)
def test_constraints_of_ones_own_replace_the_charts(helm: str, given: list[dict[str, Any]]) -> None:
    chart = Chart(helm, json_value=f"topologySpreadConstraints={json.dumps(given)}")
    (deployment,) = chart.objects("Deployment")
    assert deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []) == given


def test_a_drain_of_nodes_takes_one_replica_at_a_time_where_there_are_several(helm: str) -> None:
    (budget,) = Chart(helm).objects("PodDisruptionBudget")
    (deployment,) = Chart(helm).objects("Deployment")
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] == 1
    assert "minAvailable" not in budget["spec"]
    assert Chart(helm, "replicas=1").objects("PodDisruptionBudget") == []
    assert Chart(helm, "podDisruptionBudget.enabled=false").objects("PodDisruptionBudget") == []


def test_an_api_server_takes_every_object_without_a_warning(helm: str, api_server: ApiServer) -> None:
    url = "redis.url=redis://x:a-known-password@store"
    chart = Chart(helm, url, "dashboards.enabled=true", "crds.enabled=false")  # it is served already
    api_server.kubectl("create", "namespace", _NAMESPACE)
    items = [item for item in yaml.safe_load_all(chart.done.stdout) if item]
    assert len({item["kind"] for item in items}) > 8
    given = {"apiVersion": "v1", "kind": "List", "items": items}
    done = api_server.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=given
    )
    assert (done.returncode, done.stderr) == (0, "")
