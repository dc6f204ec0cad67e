from __future__ import annotations

import base64

import pytest

from headgate.contract import BranchContract
from headgate_operator.manifests import RedisSource, children
from unit.pipelines import pipeline

OTHERS = RedisSource("redis-url", key="url", url="redis://elsewhere:6379", owned=False)


def deployment(*branches, redis=OTHERS, **spec):
    (found,) = children(pipeline(*branches, **spec), redis).deployments.values()
    return found


def pod(*branches, **spec):
    return deployment(*branches, **spec)["spec"]["template"]["spec"]


def container(*branches, **spec):
    return pod(*branches, **spec)["containers"][0]


def test_workers_run_with_the_restricted_pod_security_standard():
    assert pod()["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_workers_have_no_token_of_the_api_server():
    shared = children(pipeline(), OTHERS).shared
    (account,) = [item for item in shared if item["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["serviceAccountName"] == account["metadata"]["name"]


def test_every_child_is_owned_by_the_pipeline():
    found = children(pipeline(), RedisSource.default(pipeline(), "redis://own"))
    for child in (*found.shared, *found.deployments.values()):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("FanoutPipeline", "orders", "u-1")
        assert owner["controller"]
        assert child["metadata"]["namespace"] == "shop"


def test_replicas_are_left_to_the_pilot():
    assert "replicas" not in deployment({"scale": {"min": 3}})["spec"]


def test_names_follow_from_pipeline_and_branch():
    found = children(pipeline({"name": "pack"}, {"name": "ship"}), OTHERS).deployments
    assert [child["metadata"]["name"] for child in found.values()] == ["orders-pack", "orders-ship"]


def test_the_selector_is_a_part_of_the_pods_labels_and_does_not_change_with_the_spec():
    small, large = deployment(), deployment({"concurrency": 99})
    assert small["spec"]["selector"] == large["spec"]["selector"]
    labels = small["spec"]["template"]["metadata"]["labels"].items()
    assert small["spec"]["selector"]["matchLabels"].items() <= labels


def test_a_worker_is_told_its_contract_its_name_and_where_its_server_is():
    env = {variable["name"]: variable for variable in container({"concurrency": 3})["env"]}
    assert BranchContract.decode(env["HEADGATE_CONTRACT"]["value"]).concurrency == 3
    assert env["HEADGATE_CONSUMER"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert env["HEADGATE_REDIS_URL"]["valueFrom"]["secretKeyRef"] == {"name": "redis-url", "key": "url"}


def test_a_worker_runs_the_branch_function():
    assert container()["command"] == ["headgate"]
    assert container()["args"] == ["worker", "--function", "shop:work"]


def test_no_manifest_but_the_secret_carries_the_url():
    source = RedisSource.default(pipeline(), "redis://:hunter2@own")
    found = children(pipeline(), source)
    (secret,) = [item for item in found.shared if item["kind"] == "Secret"]
    assert base64.b64decode(secret["data"]["url"]) == b"redis://:hunter2@own"
    assert "hunter2" not in str(found.deployments)
    assert "hunter2" not in repr(source)


def test_a_secret_of_the_users_is_not_written():
    assert [item["kind"] for item in children(pipeline(), OTHERS).shared] == ["ServiceAccount"]


def test_workers_restart_when_the_url_changes():
    def mark(url: str) -> str:
        source = RedisSource("s", key="url", url=url, owned=False)
        return deployment(redis=source)["spec"]["template"]["metadata"]["annotations"][
            "headgate.dev/redis-fingerprint"
        ]

    assert mark("redis://a") == mark("redis://a")
    assert mark("redis://a") != mark("redis://b")


def test_the_grace_period_covers_the_drain():
    drain = pipeline().contract("pack").drain_seconds
    assert pod()["terminationGracePeriodSeconds"] > drain


def test_what_the_branch_sets_of_its_pod_is_in_it():
    settings = {
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}},
        "env": [{"name": "LOG_LEVEL", "value": "debug"}],
        "envFrom": [{"secretRef": {"name": "storage"}}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "volumes": [{"name": "media", "persistentVolumeClaim": {"claimName": "media"}}],
        "volumeMounts": [{"name": "media", "mountPath": "/media"}],
        "imagePullPolicy": "Never",
        "imagePullSecrets": [{"name": "registry"}],
    }
    found = pod({"pod": settings})
    worker = found["containers"][0]
    assert worker["resources"] == settings["resources"]
    assert {"name": "LOG_LEVEL", "value": "debug"} in worker["env"]
    assert worker["envFrom"] == [{"secretRef": {"name": "storage", "optional": False}}]
    assert worker["imagePullPolicy"] == "Never"
    assert found["nodeSelector"] == {"disk": "fast"}
    assert found["tolerations"] == settings["tolerations"]
    assert found["imagePullSecrets"] == settings["imagePullSecrets"]
    assert settings["volumes"][0] in found["volumes"]
    assert {"name": "media", "mountPath": "/media", "readOnly": False} in worker["volumeMounts"]


def test_the_workers_own_wiring_cannot_be_overridden():
    env = container({"pod": {"env": [{"name": "HEADGATE_CONTRACT", "value": "mine"}]}})["env"]
    (contract,) = [variable for variable in env if variable["name"] == "HEADGATE_CONTRACT"]
    assert contract["value"] != "mine"


@pytest.mark.parametrize("mounts", [[], [{"name": "scratch", "mountPath": "/tmp/"}]])  # noqa: S108
def test_tmp_can_be_written_to(mounts):
    volumes = [{"name": mount["name"], "emptyDir": {"medium": "Memory"}} for mount in mounts]
    found = pod({"pod": {"volumes": volumes, "volumeMounts": mounts}})
    paths = [mount["mountPath"].rstrip("/") for mount in found["containers"][0]["volumeMounts"]]
    assert paths.count("/tmp") == 1  # noqa: S108
    named = {mount["name"] for mount in found["containers"][0]["volumeMounts"]}
    assert named == {volume["name"] for volume in found["volumes"]}
