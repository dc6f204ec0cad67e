"""An operator installed for one namespace looks after that one, with no right beyond it."""

from __future__ import annotations

import pytest

from cluster.installation import install
from cluster.kube import OPERATOR_NAMESPACE, condition, wait_until

ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:headgate"


@pytest.fixture
def watched(operator):
    with operator.namespace("watched") as watched, operator.namespace("unwatched"):
        install(operator, f"watchNamespaces={{{watched}}}")
        try:
            yield watched
        finally:
            install(operator)


def test_only_the_namespaces_named_are_looked_after(operator, watched):
    for namespace in ("unwatched", watched):
        operator.apply(_pipeline(namespace))
    operator.wait(watched, "fanoutpipeline/idle", "condition=Ready")
    assert condition(operator.get("unwatched", "fanoutpipeline/idle"), "Ready") == ""
    assert [_may(operator, namespace) for namespace in (watched, "unwatched")] == ["yes", "no"]
    install(operator)
    wait_until(
        "Ready", lambda: condition(operator.get("unwatched", "fanoutpipeline/idle"), "Ready") == "True", 30
    )


def _may(operator, namespace) -> str:
    asked = ("auth", "can-i", "get", "secrets", "-n", namespace, "--as", ACCOUNT)
    return operator.kubectl(*asked, check=False).stdout.strip()


def _pipeline(namespace):
    handler = {"python": {"image": "headgate/worker:dev", "function": "math:sqrt"}}
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": "idle", "namespace": namespace},
        "spec": {"branches": [{"name": "only", "handler": handler}]},
    }
