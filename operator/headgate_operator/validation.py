"""Validates a manifest on this machine as the API server would: same schema, same CEL rules, same words.

Written after k8s.io/apiextensions-apiserver, pkg/registry/customresource/strategy.go, and k8s.io/kube-openapi,
pkg/validation/validate; tests/cluster/test_api_server_agrees.py holds the two side by side.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import cel

from headgate_operator._api_base import Model
from headgate_operator._structural import as_json, fill, find_map_item, prune
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.crd import Schema, schema
from headgate_operator.field_error import FieldError, Kind, as_go

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FieldError", "Kind", "validate"]

_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN_HELP = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    f" end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_RULES_UNCHECKED = FieldError(
    "<nil>",
    Kind.INVALID,
    None,
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing"
    " errors to complete validation",
    "correct the errors above and try again",
)


def validate(manifest: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> list[FieldError]:
    """Every mistake in a manifest, in the order of the fields; an empty list when the API server would take it.

    With `old`, the pipeline as it is now, rules about changes are checked too. Unknown fields are errors, as with
    kubectl, but do not hide the others. The API server skips all rules while a field is missing, too long or of the
    wrong type; so does this, and says so.
    """
    if errors := list(_check_kind(manifest)):
        return errors
    root, new = schema(), as_json(manifest)
    errors = [_unknown(path) for path in sorted(prune(new, root))]
    new.pop("status", None)  # the API server drops a status that comes with a manifest
    fill(new, root)
    errors += [*_check_name(new), *_check(new, root, ""), *_check_lists(new, root, "")]
    if any(error.hides_rules for error in errors):
        return [*errors, _RULES_UNCHECKED]
    before = as_json(old)
    fill(before, root)
    return [*errors, *_check_rules(new, before, root, "")]


def admitted(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without mistakes as the API server would keep it: nulls out, defaults in."""
    kept: dict[str, Any] = as_json(manifest)
    fill(kept, schema())
    kept.pop("status", None)
    return kept


def _unknown(path: str) -> FieldError:
    return FieldError(path, Kind.UNKNOWN, None, f'unknown field "{path}"', "remove it or correct its name")


def _check_kind(manifest: Mapping[str, Any]) -> Iterator[FieldError]:
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    if (version, kind) != (API_VERSION, KIND):
        message = f'no matches for kind "{kind}" in version "{version}"'
        yield FieldError(
            "kind", Kind.NO_MATCH, kind, message, f"use apiVersion: {API_VERSION} and kind: {KIND}"
        )


def _check_name(manifest: Mapping[str, Any]) -> Iterator[FieldError]:
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not name:
        message = "Required value: name or generateName is required"
        yield FieldError("metadata.name", Kind.REQUIRED, None, message, "give the pipeline a name")
    elif isinstance(name, str) and not re.fullmatch(_SUBDOMAIN, name):
        message = f"Invalid value: {as_go(name)}: {_SUBDOMAIN_HELP}"
        yield FieldError(
            "metadata.name", Kind.INVALID, name, message, "use lower-case letters, digits and '-'"
        )


def _check(value: Any, node: Schema, path: str) -> Iterator[FieldError]:
    """A value and all in it against the schema: types, bounds, enums, required members."""
    found = _TYPES[type(value)]
    wanted = ["integer", "string"] if node.get("x-kubernetes-int-or-string") else [node["type"]]
    if found not in wanted:
        types = ",".join(wanted)
        message = f'Invalid value: "{found}": {path} in body must be of type {types}: "{found}"'
        yield FieldError(path, Kind.WRONG_TYPE, value, message, f"write {_an(wanted)}{_example(node)}")
    if "enum" in node and value not in node["enum"]:
        supported = "supported values: " + ", ".join(as_go(each) for each in node["enum"])
        message = f"Unsupported value: {as_go(value)}: {supported}"
        yield FieldError(path, Kind.UNSUPPORTED, value, message, f"use one of {', '.join(node['enum'])}")
    match found:
        case "string":
            yield from _check_text(value, node, path)
        case "integer" | "number":
            yield from _check_number(value, node, path)
        case "array":
            yield from _check_items(value, node, path)
        case "object":
            yield from _check_members(value, node, path)


def _check_text(value: str, node: Schema, path: str) -> Iterator[FieldError]:
    least, most, pattern = node.get("minLength", 0), node.get("maxLength"), node.get("pattern")
    if most is not None and len(value) > most:
        message = f"Too long: may not be more than {most} bytes"
        yield FieldError(
            path, Kind.TOO_LONG, value, message, f"shorten it from {len(value)} to {most} characters"
        )
    elif len(value) < least:
        message = f"{path} in body should be at least {least} chars long"
        yield _invalid(path, value, message, f"write at least {least} characters{_example(node)}")
    elif pattern is not None and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        message = f"{path} in body should match '{pattern}'"
        yield _invalid(
            path, value, message, f"change it{_example(node)}" if "example" in node else "correct it"
        )


def _check_number(value: float, node: Schema, path: str) -> Iterator[FieldError]:
    least, most = node.get("minimum"), node.get("maximum")
    remedy = f"choose {least} to {most}{_example(node)}"
    if least is not None and value < least:
        yield _invalid(path, value, f"{path} in body should be greater than or equal to {least}", remedy)
    if most is not None and value > most:
        yield _invalid(path, value, f"{path} in body should be less than or equal to {most}", remedy)


def _check_items(value: list[Any], node: Schema, path: str) -> Iterator[FieldError]:
    for at, item in enumerate(value):
        if "items" in node:
            yield from _check(item, node["items"], f"{path}[{at}]")
    least, most = node.get("minItems", 0), node.get("maxItems")
    if len(value) < least:
        message = f"Invalid value: {len(value)}: {path} in body should have at least {least} items"
        yield FieldError(path, Kind.INVALID, value, message, f"add at least {least}{_example(node)}")
    if most is not None and len(value) > most:
        message = f"Too many: {len(value)}: must have at most {most} {'item' if most == 1 else 'items'}"
        yield FieldError(path, Kind.TOO_MANY, value, message, f"keep at most {most}")


def _check_members(value: dict[str, Any], node: Schema, path: str) -> Iterator[FieldError]:
    most = node.get("maxProperties")
    if most is not None and len(value) > most:
        message = f"Too many: {len(value)}: must have at most {most} {'item' if most == 1 else 'items'}"
        yield FieldError(path, Kind.TOO_MANY, value, message, f"keep at most {most}")
    for name, member, inner in _members(value, node):
        yield from _check(member, inner, _join(path, name))
    for name in node.get("required", ()):
        if name not in value:
            example = _example(node["properties"][name])
            yield FieldError(_join(path, name), Kind.REQUIRED, None, "Required value", f"add {name}{example}")


def _check_lists(value: Any, node: Schema, path: str) -> Iterator[FieldError]:
    """Lists that are sets or maps: no value or key twice."""
    if isinstance(value, list):
        if node.get("x-kubernetes-list-type") in {"set", "map"}:
            yield from _check_unique(value, node.get("x-kubernetes-list-map-keys"), path)
        for at, item in enumerate(value):
            yield from _check_lists(item, node.get("items", {}), f"{path}[{at}]")
    elif isinstance(value, dict):
        for name, member, inner in _members(value, node):
            yield from _check_lists(member, inner, _join(path, name))


def _check_unique(items: list[Any], keys: list[str] | None, path: str) -> Iterator[FieldError]:
    """No item of a set, or none with the same `keys` in a map, comes twice; the second one is the error."""
    for at, item in enumerate(items):
        if keys is not None and not isinstance(item, dict | None):
            yield _invalid(
                f"{path}[{at}]", item, "must be an object for an array of list-type map", "write an object"
            )
            return
    seen = items if keys is None else [{key: (item or {}).get(key) for key in keys} for item in items]
    for at, each in enumerate(seen):
        if seen[:at].count(each) == 1:
            said = {key: found for key, found in each.items() if found is not None} if keys else each
            message = f"Duplicate value: {as_go(said)}"
            remedy = f"remove or rename it: {path} has it already"
            yield FieldError(f"{path}[{at}]", Kind.DUPLICATE, said, message, remedy)


def _check_rules(value: Any, old: Any, node: Schema, path: str) -> Iterator[FieldError]:
    """CEL rules of this value and of all in it; `old` is what stood here before, None when nothing did."""
    for rule in node.get("x-kubernetes-validations", ()):
        program = _compiled(rule["rule"])
        if "oldSelf" in program.variables() and old is None:
            continue
        if program.execute({"self": value, "oldSelf": old}) is not True:
            field = (path + rule.get("fieldPath", "")).removeprefix(".")
            message = f'Invalid value: "{node["type"]}": {rule["message"]}'
            yield FieldError(field, Kind.INVALID, _at(value, rule), message, _remedies()[rule["rule"]])
    if isinstance(value, list):
        for at, item in enumerate(value):
            before = find_map_item(old, node, item)
            yield from _check_rules(item, before, node.get("items", {}), f"{path}[{at}]")
    elif isinstance(value, dict):
        for name, member, inner in _members(value, node):
            before = old.get(name) if isinstance(old, dict) else None
            yield from _check_rules(member, before, inner, _join(path, name))


@cache
def _compiled(rule: str) -> cel.Program:
    return cel.compile(rule)


@cache
def _remedies() -> dict[str, str]:
    """What to do about a broken rule, by its expression."""
    remedies, models = {}, [Model]
    for model in models:
        models += model.__subclasses__()
        remedies.update({rule.expression: rule.remedy for rule in model.rules})
    return remedies


def _at(value: Any, rule: Mapping[str, str]) -> Any:
    """The value of the member that a rule is about; None when it is not there."""
    for name in rule.get("fieldPath", "").split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _members(value: dict[str, Any], node: Schema) -> Iterator[tuple[str, Any, Schema]]:
    """Members of an object that the schema describes, with their schemas."""
    known, rest = node.get("properties", {}), node.get("additionalProperties")
    for name, member in value.items():
        inner = known.get(name, rest)
        if inner is not None:
            yield name, member, inner


def _invalid(path: str, value: Any, detail: str, remedy: str) -> FieldError:
    return FieldError(path, Kind.INVALID, value, f"Invalid value: {as_go(value)}: {detail}", remedy)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _an(types: list[str]) -> str:
    return " or ".join(f"an {each}" if each[0] in "aio" else f"a {each}" for each in types)


def _example(node: Schema) -> str:
    return f", for example {as_go(node['example'])}" if "example" in node else ""
