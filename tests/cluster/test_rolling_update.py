"""Another image for every branch, rolled out while events are published and handled: none is lost, none done twice."""

from __future__ import annotations

import time

from cluster.kube import wait_until
from cluster.video import BRANCHES, IMAGE

UPLOADS, AT_ONCE = 36, 6
# The same image by its whole name: to Kubernetes another one, and the node has it.
NEXT_IMAGE = f"docker.io/{IMAGE}"


def test_a_rolling_update_of_the_image_loses_and_doubles_nothing(video, streams):
    two = {"min": 2, "max": 2}
    manifest = video.scaled(**dict.fromkeys(BRANCHES, two))
    video.apply(manifest)
    wait_until("two workers a branch", lambda: _images(video) == {IMAGE} and _ready(video) == 6, 90)
    uploads = video.uploads(UPLOADS)
    streams.publish(uploads[:AT_ONCE])
    for branch in manifest["spec"]["branches"]:
        branch["handler"]["python"]["image"] = NEXT_IMAGE
    video.cluster.apply(manifest)
    for start in range(AT_ONCE, UPLOADS, AT_ONCE):
        streams.publish(uploads[start : start + AT_ONCE])
        time.sleep(1)
    wait_until("all workers of the new image", lambda: _images(video) == {NEXT_IMAGE}, 120)
    wait_until("all records", lambda: streams.measure().joined >= UPLOADS, 180)
    figures = streams.measure()
    assert figures.partial == 0
    assert {name: (branch.done, branch.dead) for name, branch in figures.branches.items()} == dict.fromkeys(
        BRANCHES, (UPLOADS, 0)
    )
    assert video.check() == f"{UPLOADS} of {UPLOADS} records right, each exactly once"


def _images(video) -> set[str]:
    """The images of all worker pods, those that are ending included."""
    pods = video.cluster.items(video.namespace, "pods", "-l", "headgate.dev/pipeline=video-processing")
    return {pod["spec"]["containers"][0]["image"] for pod in pods}


def _ready(video) -> int:
    found = video.cluster.items(
        video.namespace, "deployments", "-l", "headgate.dev/pipeline=video-processing"
    )
    return sum(item.get("status", {}).get("readyReplicas", 0) for item in found)
