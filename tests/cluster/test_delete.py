"""kubectl delete leaves no Deployment, group, key or finaliser, also when Redis is gone."""

from __future__ import annotations

from cluster.kube import wait_until
from cluster.valkey import valkey
from cluster.video import NAME


def test_delete_leaves_nothing(video, streams):
    video.apply()
    streams.publish(video.uploads(3))
    wait_until("the records", lambda: streams.measure().joined == 3, 60)
    assert streams.names()
    video.cluster.kubectl("-n", video.namespace, "delete", f"fanoutpipeline/{NAME}", "--timeout=60s")
    assert streams.names() == set()
    wait_until("no children", lambda: not _children(video), 30)


def test_delete_leaves_nothing_in_the_middle_of_work(video, streams):
    video.apply()
    streams.publish(video.uploads(30))
    wait_until("work", lambda: streams.measure().joined > 0, 60)
    video.cluster.kubectl("-n", video.namespace, "delete", f"fanoutpipeline/{NAME}", "--timeout=90s")
    wait_until("no children", lambda: not _children(video), 60)
    assert streams.names() == set()


def test_delete_ends_when_redis_is_gone(video):
    cluster, namespace = video.cluster, video.namespace
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own-redis", "namespace": namespace},
        "stringData": {"url": f"redis://valkey.{namespace}:6379"},
    }
    cluster.apply(secret, *valkey(namespace))
    cluster.wait(namespace, "deployment/valkey", "condition=Available")
    manifest = video.manifest()
    manifest["spec"]["redis"] = {"secretRef": {"name": "own-redis"}}
    video.apply(manifest)
    cluster.kubectl("-n", namespace, "delete", "deployment/valkey", "--cascade=foreground", "--timeout=30s")
    cluster.kubectl("-n", namespace, "delete", f"fanoutpipeline/{NAME}", "--timeout=90s")
    wait_until("no children", lambda: not _children(video), 60)
    events = cluster.items(namespace, "events.events.k8s.io")
    assert "KeysLeft" in {event["reason"] for event in events}


def _children(video) -> list[str]:
    kinds = "deployments,replicasets,serviceaccounts,secrets,pods"
    found = video.cluster.items(video.namespace, kinds, "-l", f"headgate.dev/pipeline={NAME}")
    return [f"{item['kind']}/{item['metadata']['name']}" for item in found]
