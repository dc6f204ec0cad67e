"""The CRD keeps to the Kubernetes API conventions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator._structural import fill
from headgate_operator.crd import crd_yaml, schema
from reference import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = {"apiVersion", "kind", "metadata"}
"""Fields that Kubernetes itself defines."""


def fields(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of the schema below the root, with its path."""
    for name, member in node.get("properties", {}).items():
        if path or name not in ROOTS:
            yield f"{path}.{name}", member
            yield from fields(member, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield f"{path}{suffix}", node[key]
            yield from fields(node[key], f"{path}{suffix}")


FIELDS = dict(fields(schema()))
NAMED = {path: node for path, node in FIELDS.items() if not path.endswith(("[]", "{}"))}


def test_it_is_small_enough_for_client_side_apply():
    assert len(crd_yaml().encode()) < 100_000


@pytest.mark.parametrize(("path", "node"), NAMED.items(), ids=NAMED)
def test_every_field_says_what_it_is_its_default_and_an_example(path, node):
    assert len(node["description"]) > 20
    assert node["description"].endswith(".")
    if "default" in node:
        assert "Default: " in node["description"]
    if "type" in node and node["type"] != "object" and "properties" not in node.get("items", {}):
        assert "Example: " in node["description"], path


@pytest.mark.parametrize(("path", "node"), FIELDS.items(), ids=FIELDS)
def test_everything_is_bounded(path, node):
    bounds = {
        "string": {"maxLength"},
        "integer": {"minimum", "maximum"},
        "array": {"maxItems", "x-kubernetes-list-type"},
    }
    if "enum" not in node:
        assert bounds.get(node.get("type"), set()) <= node.keys(), path
    if "additionalProperties" in node:
        assert "maxProperties" in node


@pytest.mark.parametrize(("path", "node"), NAMED.items(), ids=NAMED)
def test_names_and_enums_follow_the_conventions(path, node):
    name = path.rsplit(".", 1)[-1]
    assert re.fullmatch(r"[a-z][A-Za-z0-9]*", name)
    assert all(re.fullmatch(r"[A-Z][A-Za-z]*", value) for value in node.get("enum", ()))
    if name.lower().endswith(("seconds", "timeout")) and not name.startswith("on"):
        assert name.lower().endswith("seconds")
        assert node["type"] == "integer"
        assert re.search("second", node["description"], re.IGNORECASE)


def test_defaults_of_objects_are_written_out():
    for path, node in NAMED.items():
        if node.get("type") == "object" and "default" in node:
            filled: dict[str, Any] = {}
            fill(filled, node)
            assert node["default"] == filled, path


def test_lists_of_named_objects_are_maps():
    for path, node in FIELDS.items():
        if node.get("type") == "array" and "name" in node["items"].get("properties", {}):
            assert node["x-kubernetes-list-type"] == "map", path


def test_rules_say_what_must_be():
    rules = [rule for node in FIELDS.values() for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) == 21
    assert all(rule["message"].startswith("must ") for rule in rules)


def test_examples_and_defaults_are_valid():
    from headgate_operator.validation import _check  # noqa: PLC0415 - the others here need no CEL

    for path, node in FIELDS.items():
        for key in {"example", "default"} & node.keys():
            assert list(_check(node[key], node, path)) == []


def test_the_reference_has_every_object_and_field():
    page = reference()
    for path, node in FIELDS.items():
        if "properties" in node:
            assert f"## {path[1:]}\n" in page
        for name in node.get("properties", {}):
            assert f"| `{name}`" in page
