"""The JSON Schema of a source: what its events' data must look like (draft 2020-12 where `$schema` names no other).

Publishers check before anything is published, workers once more, because any Redis client may add entries by hand.
References lead into the schema itself only: nothing is ever fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema_rs

from headgate.event import InvalidEventError, encode_data

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 80  # characters of a value in an error
_MASK = "\ufffc"  # stands for the value in the library's message, which would hold all of it
_MESSAGE = 300


class SchemaError(ValueError):
    """A JSON Schema cannot be compiled: names the place in it, what is wrong and what to do."""


class Schema:
    """A compiled schema; made by `compile_schema`."""

    def __init__(self, validator: jsonschema_rs.Validator) -> None:
        self._is_valid = validator.is_valid
        self._validator = validator

    def check(self, data: Any) -> None:
        """Raises InvalidEventError naming place, value and what is wanted when decoded JSON does not conform."""
        if self._is_valid(data):
            return
        error = next(iter(self._validator.iter_errors(data)))
        place = _place("data", error.instance_path)
        said = error.message
        if _MASK in said:
            said = said.replace(_MASK, _shown(error.instance))
        else:
            place = f"{place} is {_shown(error.instance)}"
        said = said if len(said) <= _MESSAGE else f"{said[:_MESSAGE]}…"
        raise InvalidEventError(f"{place}: {said} (by the source's schema, at {_pointer(error.schema_path)})")


def compile_schema(schema: dict[str, Any] | bool) -> Schema:
    """A schema from its JSON; raises SchemaError naming the place in it."""
    if not isinstance(schema, dict | bool):
        raise SchemaError(f"schema: {str(schema)[:_SHOWN]!r} is no schema: write an object, or true or false")
    try:
        return Schema(jsonschema_rs.validator_for(schema, mask=_MASK, retriever=_refuse))
    except jsonschema_rs.ValidationError as error:
        place = _place("schema", error.instance_path)
        raise SchemaError(f"{place}: {_reason(error)}") from error
    except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"schema: {str(error)[:_MESSAGE]}; write what JSON can carry") from error


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is not part of the schema, and nothing is fetched: put it under $defs")


def _reason(error: jsonschema_rs.ValidationError) -> str:
    said = error.message.split("\n", 1)[0].replace(_MASK, _shown(error.instance))
    keyword = error.instance_path[-1] if error.instance_path else ""
    if keyword == "type" and error.kind.name == "anyOf":
        return f"{_shown(error.instance)} is no type; use array, boolean, integer, null, number, object or string"
    if "nothing is fetched" in said:
        return f"$ref: {said.rpartition('Error: ')[2]}"
    if "meta-schema" in said:
        return f"{said.split('. ')[0]}; use https://json-schema.org/draft/2020-12/schema"
    if said.startswith("Pointer"):
        return f"$ref: {said}; point to a member of the schema, such as #/$defs/name"
    if error.kind.name == "format" or '"regex"' in said:
        return f"{said}; correct the regular expression (ECMA 262)"
    return f"{said}; correct it"


def _place(root: str, path: Sequence[str | int]) -> str:
    """A place as one writes it: data.items[3].name, and data["a b"] where a name is none."""
    place = root + "".join(
        f"[{step}]"
        if isinstance(step, int)
        else (f".{step}" if step.isidentifier() else f"[{encode_data(step).decode()}]")
        for step in path
    )
    return place if len(place) <= _MESSAGE else f"{place[:_MESSAGE]}…"


def _pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path) or "its root"


def _shown(value: Any) -> str:
    try:
        text = encode_data(value).decode()
    except OverflowError:
        text = str(value)  # an integer beyond 64 bits
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
