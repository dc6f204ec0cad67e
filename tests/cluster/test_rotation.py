"""A pipeline's password replaced under load: every event comes through, and no worker ends badly."""

from __future__ import annotations

import base64

from cluster.kube import wait_until
from cluster.video import NAME

UPLOADS = 12
ONE = {"min": 1, "max": 2}


def test_a_password_is_replaced_under_load_and_nothing_is_lost(video, streams):
    video.apply(video.scaled(thumbnail=ONE, transcode=ONE, metadata=ONE))
    wait_until("workers", lambda: _ready(video) == 3, 90)
    old = _secret(video)
    assert old["username"] == f"headgate.{video.namespace}.{NAME}"
    assert old["url"].startswith(f"redis://{old['username']}:{old['password']}@")
    uploads = video.uploads(UPLOADS)
    before = _pods(video)
    streams.publish(uploads[: UPLOADS // 3])
    annotation = "headgate.dev/rotate-credentials=tuesday"
    video.cluster.kubectl("-n", video.namespace, "annotate", f"fanoutpipeline/{NAME}", annotation)
    wait_until("another password", lambda: _secret(video)["password"] != old["password"], 30)
    streams.publish(uploads[UPLOADS // 3 : 2 * UPLOADS // 3])
    wait_until("the old one gone", lambda: "previous" not in _secret(video), 120)
    assert _secret(video)["rotation"] == "tuesday"
    assert not before & _pods(video)
    streams.publish(uploads[2 * UPLOADS // 3 :])
    wait_until("all records", lambda: streams.measure().joined >= UPLOADS, 120)
    assert video.check() == f"{UPLOADS} of {UPLOADS} records right, each exactly once"
    items = video.cluster.items(video.namespace, "pods", "-l", f"headgate.dev/pipeline={NAME}")
    # One more may still be stopping.
    assert not any(each["restartCount"] for item in items for each in item["status"]["containerStatuses"])


def _secret(video) -> dict[str, str]:
    found = video.cluster.get(video.namespace, f"secret/{NAME}-headgate-redis")
    return {name: base64.b64decode(value).decode() for name, value in found["data"].items()}


def _pods(video) -> set[str]:
    """Pods whose containers have not ended: of one that has, the object may still be there."""
    items = video.cluster.items(video.namespace, "pods", "-l", f"headgate.dev/pipeline={NAME}")
    return {
        item["metadata"]["name"] for item in items if item["status"]["phase"] not in {"Succeeded", "Failed"}
    }


def _ready(video) -> int:
    branches = video.read()["status"]["branches"]
    return sum(branch.get("readyReplicas", 0) for branch in branches)
