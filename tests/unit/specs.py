"""Specs nobody would write: made from the schema, mostly right, now and then anything at all."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from headgate_operator.crd import schema

_TEXT = st.text(string.ascii_letters + string.digits + "-_./:$<&é", max_size=9)
# Whole floats are left out: kubectl sends 4.0 as 4.
_FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _FLOATS | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def described(draw: st.DrawFn, node: dict[str, Any]) -> Any:  # noqa: PLR0911 - one a type
    """A value that keeps to a node of the schema most of the time, and now and then is anything."""
    if draw(st.integers(0, 40)) == 40:
        return draw(JSON)
    match node:
        case {"example": example} if draw(st.booleans()):
            return example
        case {"enum": values}:
            return draw(st.sampled_from(values))
        case {"type": "integer"}:
            return draw(st.integers(node["minimum"], node["maximum"]))
        case {"type": "array", "items": items}:
            return draw(st.lists(described(items), min_size=node.get("minItems", 0), max_size=2))
        case {"type": "object", "properties": members}:
            required = node.get("required", [])
            chosen = [name for name in members if name in required or draw(st.booleans())]
            return {name: draw(described(members[name])) for name in chosen}
        case {"type": "boolean"}:
            return draw(st.booleans())
        case {"type": "string"}:
            return draw(st.sampled_from(["a", "b", "thumbnail"]))
    return draw(JSON)


def specs() -> st.SearchStrategy[Any]:
    """Values for a pipeline's `spec`."""
    return described(schema()["properties"]["spec"])
