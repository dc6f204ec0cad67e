"""A worker killed with SIGKILL in the middle of a handler: nothing is lost, nothing done twice."""

from __future__ import annotations

from cluster.kube import wait_until

UPLOADS = 8
LONG_VIDEO_SECONDS = 40  # its transcode takes several seconds: the kill falls into it


def test_a_killed_worker_loses_and_doubles_nothing(video, streams, node):
    two = {"min": 2, "max": 2}
    video.apply(video.scaled(transcode=two))
    wait_until("two transcoders", lambda: _ready(video) == 2, 60)
    long = video.long_upload(LONG_VIDEO_SECONDS)
    streams.publish([long])
    holding = wait_until(
        "the long one in a handler", lambda: streams.measure().branches["transcode"].holding, 20
    )
    (victim,) = holding
    streams.publish(video.uploads(UPLOADS))
    assert streams.measure().branches["transcode"].holding.get(victim), (
        "the handler ended before it could be killed"
    )
    assert node.kill_worker(victim) == 1
    wait_until("all records", lambda: streams.measure().joined >= UPLOADS + 1, 120)
    assert _exit_code(video, victim) == 137
    figures = streams.measure()
    assert figures.joined == UPLOADS + 1
    assert figures.partial == 0
    assert {name: (branch.done, branch.dead) for name, branch in figures.branches.items()} == dict.fromkeys(
        ("thumbnail", "transcode", "metadata"), (UPLOADS + 1, 0)
    )
    assert video.check() == f"{UPLOADS + 1} of {UPLOADS + 1} records right, each exactly once"


def _ready(video) -> int:
    deployment = video.cluster.get(video.namespace, "deployment/video-processing-transcode")
    return deployment.get("status", {}).get("readyReplicas", 0)


def _exit_code(video, pod) -> int:
    status = video.cluster.get(video.namespace, f"pod/{pod}")["status"]["containerStatuses"][0]
    ended = status["lastState"].get("terminated") or status["state"].get("terminated")
    return ended["exitCode"]
