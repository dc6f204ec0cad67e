"""The pods of branches that push their events: to a URL, or to a container of the user's beside the worker."""

from __future__ import annotations

import pytest

from headgate.contract import BranchContract
from headgate_operator.manifests import RedisSource, children
from headgate_operator.problem import Problem
from unit.pipelines import pipeline

REDIS = RedisSource("redis-url", key="url", url="redis://elsewhere:6379", owned=False)
URL = {"url": "https://hooks.example/orders", "signingSecretRef": {"name": "hooks", "key": "pack"}}
OWN = {"image": "pack:7", "port": 3000, "path": "/events", "command": ["node"], "args": ["server.js"]}
SETTINGS = {
    "env": [{"name": "LOG_LEVEL", "value": "debug"}],
    "envFrom": [{"secretRef": {"name": "storage"}}],
    "resources": {"limits": {"memory": "1Gi"}},
    "volumes": [{"name": "media", "emptyDir": {}}],
    "volumeMounts": [{"name": "media", "mountPath": "/media"}],
    "imagePullPolicy": "Always",
}


def pod(handler, **more):
    found = children(pipeline({"handler": handler} | more), REDIS, "headgate/worker:1")
    return found.deployments["pack"]["spec"]["template"]["spec"]


def contract(worker) -> BranchContract:
    (value,) = [each["value"] for each in worker["env"] if each["name"] == "HEADGATE_CONTRACT"]
    return BranchContract.decode(value)


def test_a_branch_with_a_url_runs_the_operators_worker_image():
    (worker,) = pod({"http": URL})["containers"]
    assert worker["image"] == "headgate/worker:1"
    assert (worker["command"], worker["args"]) == (["headgate"], ["worker"])
    assert contract(worker).http.url == "https://hooks.example/orders"


def test_signing_keys_come_as_a_file_that_the_kubelet_keeps_fresh():
    found = pod({"http": URL})
    (worker,) = found["containers"]
    (volume,) = [each for each in found["volumes"] if "secret" in each]
    assert volume["secret"] == {"secretName": "hooks", "items": [{"key": "pack", "path": "keys"}]}
    (mount,) = [each for each in worker["volumeMounts"] if each["name"] == volume["name"]]
    assert mount["readOnly"]
    assert "subPath" not in mount, "a subPath is never written again"
    assert contract(worker).http.signing_keys_file == f"{mount['mountPath']}/keys"


def test_without_a_secret_nothing_is_mounted_and_nothing_signed():
    found = pod({"http": {"url": "https://hooks.example"}})
    assert not [each for each in found["volumes"] if "secret" in each]
    assert contract(found["containers"][0]).http.signing_keys_file == ""


def test_a_container_handler_runs_beside_the_worker_and_outlives_its_drain():
    found = pod({"container": OWN})
    (own,), (worker,) = found["initContainers"], found["containers"]
    assert own["restartPolicy"] == "Always", "what makes an init container a sidecar"
    assert (own["image"], own["command"], own["args"]) == ("pack:7", ["node"], ["server.js"])
    assert own["ports"] == [{"name": "events", "containerPort": 3000, "protocol": "TCP"}]
    assert worker["image"] == "headgate/worker:1"
    http = contract(worker).http
    assert (http.url, http.await_listening) == ("http://127.0.0.1:3000/events", True)


def test_the_image_decides_its_command_where_the_manifest_does_not():
    (own,) = pod({"container": {"image": "pack:7"}})["initContainers"]
    assert not {"command", "args"} & own.keys()


def test_a_container_handler_is_restricted_only_where_that_cannot_break_it():
    found = pod({"container": OWN})
    assert found["securityContext"]["runAsNonRoot"]
    assert found["initContainers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def test_what_the_branch_sets_of_its_pod_applies_to_the_users_container_alone():
    found = pod({"container": OWN}, pod=SETTINGS)
    (own,), (worker,) = found["initContainers"], found["containers"]
    assert own["env"] == SETTINGS["env"]
    assert own["envFrom"] == [{"secretRef": {"name": "storage", "optional": False}}]
    assert own["resources"] == SETTINGS["resources"]
    assert own["volumeMounts"] == [{"name": "media", "mountPath": "/media", "readOnly": False}]
    assert own["imagePullPolicy"] == "Always"
    assert not {"envFrom", "resources", "imagePullPolicy"} & worker.keys()
    assert "LOG_LEVEL" not in str(worker["env"])
    assert [each["mountPath"] for each in worker["volumeMounts"]] == ["/tmp"]  # noqa: S108
    assert "HEADGATE_CONTRACT" not in str(own)
    assert "HEADGATE_REDIS_URL" not in str(own)


def test_logs_and_traces_of_a_worker_beside_a_container_can_be_set_too():
    env = [{"name": "OTEL_SERVICE_NAME", "value": "a"}, {"name": "HEADGATE_LOG_LEVEL", "value": "debug"}]
    found = pod({"container": OWN}, pod={"env": [*env, {"name": "TOKEN", "value": "b"}]})
    (own,), (worker,) = found["initContainers"], found["containers"]
    assert [each["name"] for each in own["env"]] == ["OTEL_SERVICE_NAME", "HEADGATE_LOG_LEVEL", "TOKEN"]
    assert all(each in worker["env"] for each in env)
    assert "TOKEN" not in str(worker["env"])


def test_what_the_branch_sets_of_its_pod_applies_to_a_worker_that_pushes_to_a_url():
    (worker,) = pod({"http": URL}, pod=SETTINGS)["containers"]
    assert worker["resources"] == SETTINGS["resources"]
    assert SETTINGS["env"][0] in worker["env"]


@pytest.mark.parametrize("handler", [{"http": URL}, {"container": OWN}])
def test_an_operator_that_knows_no_image_that_pushes_says_so(handler):
    with pytest.raises(Problem, match=r"'pack' pushes its events.*HEADGATE_WORKER_IMAGE") as raised:
        children(pipeline({"handler": handler}), REDIS)
    assert raised.value.reason == "NoWorkerImage"
