"""A namespace with many pipelines goes, whatever has become of its Redis server."""

from __future__ import annotations

import time

from cluster.kube import condition, wait_until
from cluster.valkey import valkey

PIPELINES = 20
SECONDS = 60


def test_a_namespace_with_twenty_pipelines_goes_while_redis_is_down(operator, namespace):
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own-redis", "namespace": namespace},
        "stringData": {"url": f"redis://valkey.{namespace}:6379"},
    }
    operator.apply(secret, *valkey(namespace))
    operator.wait(namespace, "deployment/valkey", "condition=Available")
    operator.apply(*(pipeline(namespace, number) for number in range(PIPELINES)))
    wait_until("all are ready", lambda: ready(operator, namespace) == PIPELINES, 180)
    operator.kubectl("-n", namespace, "delete", "deployment/valkey", "--cascade=foreground", "--timeout=30s")
    wait_until("the status says so", lambda: reachable(operator, namespace) == 0, 120)

    began = time.monotonic()
    operator.kubectl("delete", "namespace", namespace, "--timeout=120s", seconds=130)
    seconds = time.monotonic() - began
    print(f"deleting a namespace with {PIPELINES} pipelines while Redis is down: {seconds:.1f} s")  # noqa: T201
    assert seconds < SECONDS


def pipeline(namespace: str, number: int) -> dict:
    # One has a worker that runs: it has to stop without its server, too.
    least = 1 if number == 0 else 0
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": f"p{number}", "namespace": namespace},
        "spec": {
            "redis": {"secretRef": {"name": "own-redis"}},
            "branches": [
                {
                    "name": "hook",
                    "handler": {"http": {"url": "https://hooks.example/"}},
                    "scale": {"min": least, "max": 2},
                }
            ],
        },
    }


def ready(operator, namespace: str) -> int:
    items = operator.items(namespace, "fanoutpipelines")
    return sum(condition(each, "Ready") == "True" for each in items)


def reachable(operator, namespace: str) -> int:
    items = operator.items(namespace, "fanoutpipelines")
    return sum(condition(each, "RedisReachable") == "True" for each in items)
