"""200 uploads at once: 200 right records, each once; the transcode branch alone scales out, and back to its minimum."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from cluster.kube import wait_until
from cluster.streams import Streams
from cluster.video import BRANCHES, NAME, video_example
from headgate.streams import PipelineKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.video import VideoExample
    from headgate.streams import PipelineMeasurement

UPLOADS = 200
FIRST = (
    8  # handled before the burst: until it has seen a branch work, the pilot cannot know what a worker can do
)
# One worker does all cheap work within this time, also while four transcodes share its cores.
CHEAP = {"drainWithinSeconds": 60}
SECONDS_TO_JOIN = 240
SECONDS_TO_SHRINK = 60


@dataclass(frozen=True)
class Run:
    """What one run of all uploads left: the pipeline's figures, and the most replicas each branch asked for."""

    video: VideoExample
    streams: Streams
    figures: PipelineMeasurement
    most: dict[str, int]
    seconds: float


@pytest.fixture(scope="module")
def run(operator, redis_url) -> Iterator[Run]:
    with operator.namespace("two-hundred") as namespace, video_example(operator, namespace) as video:
        video.apply(video.scaled(thumbnail=CHEAP, metadata=CHEAP))
        streams = Streams(redis_url, PipelineKeys(namespace, NAME), BRANCHES)
        uploads = video.uploads(UPLOADS)
        streams.publish(uploads[:FIRST])
        wait_until("the first records", lambda: streams.measure().joined >= FIRST, 60)
        wait_until("one worker a cheap branch", lambda: _cheap(video) == {1}, SECONDS_TO_SHRINK)
        started, most = time.monotonic(), defaultdict(int)

        def joined() -> bool:
            for branch, replicas in video.replicas().items():
                most[branch] = max(most[branch], replicas)
            return streams.measure().joined >= UPLOADS

        streams.publish(uploads[FIRST:])
        wait_until(f"{UPLOADS} records", joined, SECONDS_TO_JOIN, every=0.5)
        seconds = time.monotonic() - started
        print(f"{UPLOADS - FIRST} uploads joined in {seconds:.1f} s; most replicas {dict(most)}")  # noqa: T201
        yield Run(video, streams, streams.measure(), dict(most), seconds)


def test_every_upload_gives_one_right_record(run):
    assert run.figures.joined == UPLOADS
    assert run.figures.partial == 0
    assert all(branch.done == UPLOADS and branch.dead == 0 for branch in run.figures.branches.values())
    assert run.video.check() == f"{UPLOADS} of {UPLOADS} records right, each exactly once"


def test_the_transcode_branch_alone_scales_out_and_back_to_its_minimum(run):
    scales = {branch["name"]: branch["scale"] for branch in run.video.manifest()["spec"]["branches"]}
    assert run.most["transcode"] == scales["transcode"]["max"]
    assert run.most["thumbnail"] == run.most["metadata"] == 1
    minimum = {name: scale["min"] for name, scale in scales.items()}
    wait_until("every branch at its minimum", lambda: run.video.replicas() == minimum, SECONDS_TO_SHRINK)


def _cheap(video: VideoExample) -> set[int]:
    return {replicas for branch, replicas in video.replicas().items() if branch != "transcode"}
