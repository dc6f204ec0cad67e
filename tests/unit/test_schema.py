"""The schema of a source: what is refused, where, and that nothing is ever fetched."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from headgate.event import InvalidEventError
from headgate.schema import SchemaError, compile_schema

VIDEO = {
    "type": "object",
    "required": ["seconds"],
    "additionalProperties": False,
    "properties": {
        "seconds": {"type": "number", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        "codec": {"enum": ["h264", "av1"]},
        "at": {"$ref": "#/$defs/place"},
        "a b": {"type": "integer"},
    },
    "$defs": {"place": {"type": "string", "pattern": "^[a-z]+$"}},
}


@pytest.mark.parametrize(
    "data", [{"seconds": 0}, {"seconds": 1.5, "tags": ["abc"], "codec": "av1", "at": "x"}]
)
def test_what_conforms_passes(data: Any) -> None:
    compile_schema(VIDEO).check(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, 'data is {}: "seconds" is a required property (by the source\'s schema, at /required)'),
        (
            {"seconds": -1},
            "data.seconds: -1 is less than the minimum of 0 (by the source's schema, at /properties/seconds/minimum)",
        ),
        ({"seconds": 1, "tags": ["a", "abcd"]}, 'data.tags[1]: "abcd" is longer than 3 characters'),
        ({"seconds": 1, "codec": "vp9"}, 'data.codec: "vp9" is not one of "h264" or "av1"'),
        ({"seconds": 1, "at": "A"}, 'data.at: "A" does not match "^[a-z]+$"'),
        ({"seconds": 1, "a b": "x"}, 'data["a b"]: "x" is not of type "integer"'),
        ({"seconds": 1, "z": 1}, "'z' was unexpected"),
        (None, 'data: null is not of type "object"'),
        ({"seconds": [2**70]}, "data.seconds: [1180591620717411303424] is not of type"),
    ],
)
def test_what_does_not_conform_is_told_with_place_value_and_what_is_wanted(data: Any, told: str) -> None:
    with pytest.raises(InvalidEventError) as error:
        compile_schema(VIDEO).check(data)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        {"seconds": "x" * 100_000},
        {"seconds": 1, "tags": ["x" * 100_000]},
        {f"k{number}": 1 for number in range(10_000)},
        {"x" * 100_000: 1},
    ],
)
def test_a_value_is_shortened(data: Any) -> None:
    with pytest.raises(InvalidEventError) as error:
        compile_schema(VIDEO).check(data)
    assert len(str(error.value)) < 1000


def test_data_as_deep_as_json_may_be_is_refused_without_harm() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    with pytest.raises(InvalidEventError) as error:
        compile_schema({"type": "array", "items": {"$ref": "#"}}).check(deep)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {"n": {"type": "integr"}}}, 'schema.properties.n.type: "integr"'),
        ({"properties": {"n": {"minimum": "x"}}}, 'schema.properties.n.minimum: "x" is not of type "number"'),
        ({"properties": {"n": {"pattern": "("}}}, 'schema.properties.n.pattern: "(" is not a "regex"'),
        ({"$ref": "#/$defs/nope"}, "$ref: Pointer '/$defs/nope' does not exist"),
        ({"$schema": "https://nowhere/x"}, "Unknown meta-schema"),
        (5, "'5' is no schema: write an object, or true or false"),
        ('{"type": "string"}', "is no schema"),
    ],
)
def test_a_mistake_in_the_schema_is_told_with_its_place(schema: Any, told: str) -> None:
    with pytest.raises(SchemaError) as error:
        compile_schema(schema)
    assert told in str(error.value)


def test_a_format_is_a_remark_and_a_pattern_is_checked() -> None:
    compile_schema({"format": "date-time"}).check("yesterday")
    with pytest.raises(InvalidEventError):
        compile_schema({"pattern": "^[0-9]{4}-"}).check("yesterday")


def test_a_draft_is_chosen_by_name() -> None:
    tuple_of_one = {"items": [{"type": "string"}]}  # a tuple until draft 2019-09, no schema in 2020-12
    compile_schema({"$schema": "http://json-schema.org/draft-07/schema#", **tuple_of_one}).check(["x"])
    with pytest.raises(SchemaError):
        compile_schema(tuple_of_one)


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}/x.json", "file:///etc/hostname"])
def test_nothing_is_ever_fetched(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        uri = form.format(port=listener.getsockname()[1])
        with pytest.raises(SchemaError, match="nothing is fetched: put it under"):
            compile_schema({"$ref": uri})
        with pytest.raises(TimeoutError):
            listener.accept()
