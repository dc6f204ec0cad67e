"""A refusal of one field, worded as the API server words it."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


class Kind(enum.StrEnum):
    """Why a field is refused; most are causes that the API server names in a Status."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    WRONG_TYPE = "FieldValueTypeInvalid"
    UNSUPPORTED = "FieldValueNotSupported"
    DUPLICATE = "FieldValueDuplicate"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    UNKNOWN = "UnknownField"
    NO_MATCH = "NoMatch"


@dataclass(frozen=True)
class FieldError:
    """One mistake in a manifest. `str()` is what the API server says of it; `remedy` is what to do.

    `value` is what the manifest has there, None when nothing; `message` is the API server's text after the field.
    """

    field: str
    kind: Kind
    value: Any
    message: str
    remedy: str

    def __str__(self) -> str:
        if self.kind in {Kind.UNKNOWN, Kind.NO_MATCH}:
            return self.message
        return f"{self.field}: {self.message}"

    @property
    def hides_rules(self) -> bool:
        """Whether the API server evaluates no CEL rule while this error stands."""
        return self.kind in {Kind.REQUIRED, Kind.WRONG_TYPE, Kind.UNSUPPORTED, Kind.TOO_LONG, Kind.TOO_MANY}


def as_go(value: Any) -> str:
    """A value as the API server prints it in an error."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return _float_as_go(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if isinstance(value, str):
        return text
    # Go's JSON escapes what could end a script element.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _float_as_go(value: float) -> str:
    """Go's %v of a float64: the shortest digits, with an exponent from 1e+06 on and below 1e-04."""
    exact = Decimal(repr(value)).normalize()
    if -5 < exact.adjusted() < 6:
        return format(exact, "f")
    mantissa = exact.scaleb(-exact.adjusted())
    return f"{mantissa:f}e{exact.adjusted():+03d}"
