"""A manifest becomes a Pipeline, and a Pipeline the contracts of its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.contract import (
    BatchSettings,
    BranchContract,
    BreakerContract,
    Complete,
    Executor,
    HttpContract,
    JoinContract,
    OnTimeout,
    Ordering,
    RetryContract,
    RetryRule,
    SharesContract,
)
from headgate.event import Lane
from headgate_operator.api import BranchSpec, DelayableLane, FanoutPipelineSpec
from headgate_operator.contracts import Place
from headgate_operator.pipeline import ManifestError, load_pipeline

MANIFESTS = Path(__file__).parents[1] / "data" / "manifests"
# What everything.yaml says.
SCHEMA = {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}}
JOIN = JoinContract(
    branches=("thumbnail", "transcode"),
    complete=Complete.QUORUM,
    quorum=1,
    timeout_seconds=900,
    on_timeout=OnTimeout.DEAD_LETTER,
    output="catalogue",
)


def minimal(**spec: Any) -> dict[str, Any]:
    branch = {
        "name": "transcode",
        "handler": {"python": {"image": "videos:1", "function": "videos:transcode"}},
    }
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": "video"},
        "spec": {"branches": [branch], **spec},
    }


def everything() -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / "everything.yaml").read_text())


def test_a_minimal_manifest_takes_the_defaults():
    pipeline = load_pipeline(minimal())
    assert str(pipeline) == "default/video"
    assert (pipeline.uid, pipeline.generation) == ("", 0)
    assert pipeline.contract("transcode") == BranchContract(
        namespace="default", pipeline="video", branch="transcode", function="videos:transcode"
    )


def test_identity_comes_from_the_metadata():
    manifest = minimal()
    manifest["metadata"] |= {"namespace": "media", "uid": "7d", "generation": 3}
    pipeline = load_pipeline(manifest)
    assert (pipeline.namespace, pipeline.name, pipeline.uid, pipeline.generation) == (
        "media",
        "video",
        "7d",
        3,
    )
    assert str(pipeline.keys) == "media/video"


def test_a_contract_carries_every_setting_of_the_branch():
    pipeline = load_pipeline(everything())
    assert pipeline.keys.partitions == 4
    assert pipeline.contract("transcode") == BranchContract(
        namespace="default",
        pipeline="everything",
        branch="transcode",
        function="videos.h264:Transcoder.run",
        partitions=4,
        executor=Executor.PROCESSES,
        ordering=Ordering.KEY,
        concurrency=2,
        filter='event.type == "video.uploaded" && event.data.seconds > 0',
        schema=SCHEMA,
        timeout_seconds=600,
        retry=RetryContract(
            max_attempts=3,
            initial_seconds=2,
            factor=3,
            max_seconds=60,
            rules=(RetryRule(match="^ValueError: "), RetryRule(match="timed out", retryable=True)),
        ),
        join=JOIN,
        claim_after_seconds=3,
        shares=SharesContract(normal=5, low=0),
    )


def test_a_branch_that_pushes_to_a_url_is_told_where_how_fast_and_with_what_keys():
    contract = load_pipeline(everything()).contract("thumbnail", Place(signing_keys_file="/keys"))
    assert contract == BranchContract(
        namespace="default",
        pipeline="everything",
        branch="thumbnail",
        http=HttpContract(
            url="https://hooks.example:8443/thumbnails?size=small",
            signing_keys_file="/keys",
            allow_networks=("10.96.0.0/12", "fd00::/8"),
            breaker=BreakerContract(failures=10, open_seconds=60),
        ),
        partitions=4,
        batch=BatchSettings(max_events=50, max_wait_seconds=5),
        rate_limit=100,
        schema=SCHEMA,
        join=JOIN,
        shares=SharesContract(normal=5, low=0),
    )


def test_a_branch_that_pushes_to_its_container_waits_for_it_on_localhost():
    pipeline = load_pipeline(everything())
    assert pipeline.contract("metadata").http == HttpContract(
        url="http://127.0.0.1:3000/events",
        breaker=BreakerContract(failures=0, open_seconds=1),
        await_listening=True,
    )
    elsewhere = Place(url="http://127.0.0.1:9/x")
    assert pipeline.contract("metadata", elsewhere).http.url == "http://127.0.0.1:9/x"


def test_without_a_signing_secret_there_is_no_file_of_keys():
    manifest = everything()
    del manifest["spec"]["branches"][0]["handler"]["http"]["signingSecretRef"]
    contract = load_pipeline(manifest).contract("thumbnail", Place(signing_keys_file="/keys"))
    assert contract.http.signing_keys_file == ""


@pytest.mark.parametrize("branch", ["thumbnail", "transcode", "metadata"])
def test_a_contract_survives_the_environment_variable(branch):
    contract = load_pipeline(everything()).contract(branch)
    assert BranchContract.decode(contract.encode()) == contract


def test_a_branch_outside_the_join_has_none():
    manifest = everything()
    manifest["spec"]["join"]["branches"] = ["thumbnail"]
    pipeline = load_pipeline(manifest)
    assert pipeline.contract("thumbnail").join == pipeline.join
    assert pipeline.contract("transcode").join is None


def test_an_unknown_branch_is_named_with_those_there_are():
    with pytest.raises(KeyError, match="'resize'; it has thumbnail, transcode, metadata"):
        load_pipeline(everything()).branch("resize")


def test_a_spec_written_back_is_the_manifest_with_defaults():
    written = load_pipeline(everything()).spec.model_dump(by_alias=True, exclude_none=True, mode="json")
    again = FanoutPipelineSpec.model_validate(written)
    assert again == load_pipeline(everything()).spec


def test_members_of_a_volume_pass_through_unchanged():
    volume = load_pipeline(everything()).branch("transcode").pod.volumes[0]
    assert volume.model_dump(by_alias=True) == {
        "name": "media",
        "persistentVolumeClaim": {"claimName": "media"},
    }


def test_delayable_lanes_are_lanes_of_the_data_plane():
    assert [each.lane for each in DelayableLane] == [Lane.LOW, Lane.NORMAL]


def test_fields_go_by_either_spelling():
    handler = {"python": {"image": "i", "function": "a:b"}}
    spelt = {"name": "a", "handler": handler, "timeoutSeconds": 5}
    assert BranchSpec(name="a", handler=handler, timeout_seconds=5) == BranchSpec(**spelt)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "Pipeline"}, "apiVersion, kind: headgate.dev/v1alpha1, Pipeline: must be"),
        ({"metadata": {}}, "metadata.name: Required value"),
        ({"spec": {"branches": []}}, "spec.branches: "),
        ({"spec": None}, "spec.branches: Field required"),
    ],
)
def test_what_cannot_be_loaded_names_the_field(change, words):
    with pytest.raises(ManifestError, match=words):
        load_pipeline(minimal() | change)
