"""Validation on this machine: all mistakes at once, each with a remedy, never a traceback.

That the words are the API server's is shown by tests/cluster/test_api_server_agrees.py.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from headgate_operator.field_error import as_go
from headgate_operator.pipeline import load_pipeline
from headgate_operator.validation import Kind, admitted, validate
from unit.specs import specs

MANIFESTS = Path(__file__).parents[1] / "data" / "manifests"
HEAD = {"apiVersion": "headgate.dev/v1alpha1", "kind": "FanoutPipeline", "metadata": {"name": "video"}}


PYTHON = {"image": "videos:1", "function": "videos:transcode"}


def branch(name: str = "transcode", **more: Any) -> dict[str, Any]:
    return {"name": name, "handler": {"python": PYTHON}} | more


def manifest(*branches: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return HEAD | {"spec": {"branches": list(branches or [branch()]), **spec}}


def level(name: str, lag: int, release: int, **lanes: list[str] | None) -> dict[str, Any]:
    found = {"name": name, "lag": lag, "releaseLag": release, "delay": ["Low"]} | lanes
    return {name: value for name, value in found.items() if value is not None}


def test_a_good_manifest_has_no_mistakes():
    assert validate(manifest()) == []


def test_the_manifest_itself_stays_as_it_was():
    given_one = manifest(branch(scale=None, colour="red"))
    before = yaml.safe_dump(given_one)
    validate(given_one)
    assert yaml.safe_dump(given_one) == before


@pytest.mark.parametrize("name", ["ten-mistakes", "ten-broken-rules", "unknown-fields", "odd-values"])
def test_all_mistakes_come_at_once_each_with_field_and_remedy(name):
    errors = validate(yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text()))
    assert len(errors) >= 7
    assert all(error.field and error.remedy for error in errors)
    assert len({str(error) for error in errors}) == len(errors)


BROKEN = {
    "spec.join.branches": manifest(join={"branches": ["transcode", "thumbnail"]}),
    "spec.branches[0].scale.min": manifest(branch(scale={"min": 11})),
    "spec.branches[0].retry.initialSeconds": manifest(branch(retry={"initialSeconds": 301})),
    "spec.branches[0].pod.volumeMounts": manifest(
        branch(pod={"volumeMounts": [{"name": "media", "mountPath": "/media"}]})
    ),
    "spec.branches[0].pod.env[0]": manifest(
        branch(pod={"env": [{"name": "A", "value": "", "valueFrom": {}}]})
    ),
    "spec.branches[0].pod.env[0].name": manifest(branch(pod={"env": [{"name": "HEADGATE_CONTRACT"}]})),
    "spec.branches[0].pod.envFrom[0]": manifest(branch(pod={"envFrom": [{}]})),
    "spec.branches[0].handler": manifest(
        branch(handler={"python": PYTHON, "http": {"url": "https://h.example"}})
    ),
    "spec.branches[0].handler.container.port": manifest(
        branch(handler={"container": {"image": "i", "port": 9100}})
    ),
    "spec.source.retention.keepSeconds": manifest(source={"retention": {"keepSeconds": 604801}}),
    "spec.join.quorum": manifest(join={"branches": ["transcode"], "complete": "Quorum", "quorum": 2}),
    "spec.join.output.pipeline": manifest(join={"branches": ["transcode"], "output": {"pipeline": "video"}}),
    "spec.backpressure.levels": manifest(backpressure={"levels": [level("A", 9, 1), level("B", 9, 1)]}),
    "spec.backpressure.levels[0].releaseLag": manifest(backpressure={"levels": [level("A", 9, 9)]}),
    "spec.backpressure.levels[0]": manifest(backpressure={"levels": [level("A", 9, 1, delay=None)]}),
    "spec.branches[0].backpressure.levels": manifest(
        branch(backpressure={"levels": [level("A", 9, 1), level("B", 8, 1)]})
    ),
}


@pytest.mark.parametrize(("field", "broken"), BROKEN.items(), ids=BROKEN)
def test_every_rule_is_evaluated(field, broken):
    (error,) = validate(broken)
    assert error.field == field
    assert str(error).startswith(f'{field}: Invalid value: "object": must ')


@pytest.mark.parametrize(
    ("lanes", "taken"),
    [
        ({"delay": None, "reject": ["Low"]}, True),
        ({"reject": ["Low", "Normal"]}, True),
        ({"delay": []}, False),
        ({"reject": ["High"]}, False),
        ({"reject": ["Low", "Low"]}, False),
    ],
)
def test_a_level_delays_or_rejects_lower_lanes_or_both(lanes, taken):
    assert (validate(manifest(backpressure={"levels": [level("A", 9, 1, **lanes)]})) == []) is taken


@pytest.mark.parametrize(
    ("shares", "taken"), [({"low": 0}, True), ({"low": 50}, True), ({"normal": 51}, False)]
)
def test_no_lower_lane_gets_more_than_half(shares, taken):
    backpressure = {"levels": [level("A", 9, 1)], "shares": shares}
    assert (validate(manifest(backpressure=backpressure)) == []) is taken


@pytest.mark.parametrize("handler", [{}, {"http": None}])
def test_a_branch_needs_something_that_handles_its_events(handler):
    (error,) = validate(manifest(branch(handler=handler)))
    assert str(error) == (
        'spec.branches[0].handler: Invalid value: "object": must have exactly one of python, http and container'
    )


@pytest.mark.parametrize("join", [{"complete": "Quorum"}, {"quorum": 1}, {"complete": "Any", "quorum": 1}])
def test_a_quorum_is_given_when_it_is_wanted_and_only_then(join):
    (error,) = validate(manifest(join={"branches": ["transcode"]} | join))
    assert error.field == "spec.join.quorum"
    assert "with complete Quorum, and only with that" in error.message


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://hooks.example", True),
        ("http://[fd00::1]:8080/a?b=c", True),
        ("https://user:secret@hooks.example/", False),
        ("ftp://hooks.example", False),
        ("https://", False),
        ("https://hooks.example/a b", False),
    ],
)
def test_a_url_is_http_and_carries_no_password(url, taken):
    assert (validate(manifest(branch(handler={"http": {"url": url}}))) == []) is taken


@pytest.mark.parametrize(
    ("start", "taken"),
    [
        ("Now", True),
        ("Beginning", True),
        ("2026-01-31T12:00:00Z", True),
        ("2026-01-31T12:00:00.25+01:00", True),
        ("2026-01-31T12:00:00", False),
        ("yesterday", False),
    ],
)
def test_a_branch_starts_now_at_the_beginning_or_at_a_time_with_its_zone(start, taken):
    assert (validate(manifest(branch(startAt=start))) == []) is taken


def test_a_broken_rule_shows_the_value_at_fault():
    (error,) = validate(BROKEN["spec.join.branches"])
    assert error.value == ["transcode", "thumbnail"]


def test_partitions_may_grow_but_not_shrink():
    four, two = manifest(source={"partitions": 4}), manifest(source={"partitions": 2})
    assert validate(four, two) == []
    (error,) = validate(two, four)
    assert error.field == "spec.source.partitions"


def test_an_unchanged_default_is_no_change():
    assert validate(manifest(), manifest()) == []
    (error,) = validate(manifest(), manifest(source={"partitions": 2}))
    assert error.field == "spec.source.partitions"


def test_names_and_keys_are_unique():
    errors = validate(manifest(branch("a"), branch("b"), branch("a"), join={"branches": ["b", "b"]}))
    assert [str(error) for error in errors] == [
        'spec.branches[2]: Duplicate value: {"name":"a"}',
        'spec.join.branches[1]: Duplicate value: "b"',
    ]


def test_another_kind_is_told_first_and_alone():
    (error,) = validate({"apiVersion": "v1", "kind": "Pod"})
    assert str(error) == 'no matches for kind "Pod" in version "v1"'
    assert error.kind is Kind.NO_MATCH


@pytest.mark.parametrize("metadata", [None, {}, "video", {"name": ""}, {"name": None}])
def test_a_pipeline_needs_a_name(metadata):
    assert "metadata.name" in {error.field for error in validate(manifest() | {"metadata": metadata})}


def test_a_status_that_comes_along_is_ignored():
    assert validate(manifest() | {"status": {"level": 5}}) == []


def test_yaml_readers_types_become_json():
    odd = manifest(
        branch(
            concurrency=4.0,
            pod={"env": [{"name": "DAY", "value": dt.date(2026, 1, 31)}], "nodeSelector": {1: "x"}},
        )
    )
    assert validate(odd) == []


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0, "0"),
        (True, "true"),
        (None, "null"),
        ('a"b', '"a\\"b"'),
        (1.5, "1.5"),
        (-2000000.5, "-2.0000005e+06"),
        (1e30, "1e+30"),
        (0.00001, "1e-05"),
        (123456.5, "123456.5"),
        ({"b": 1, "a": "<"}, '{"a":"\\u003c","b":1}'),
    ],
)
def test_values_are_printed_as_go_does(value, printed):
    assert as_go(value) == printed


@settings(max_examples=300, deadline=None)
@given(specs())
def test_what_validates_loads(spec):
    pipeline = HEAD | {"spec": spec}
    errors = validate(pipeline)
    if not errors:
        assert load_pipeline(admitted(pipeline)).spec.branches
    assert all(str(error) and error.remedy for error in errors)
