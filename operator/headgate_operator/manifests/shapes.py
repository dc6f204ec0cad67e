"""What a JSON value may be, member by member: a member that is not named is refused, whatever it may come to mean.

A shape takes a value and its path and gives what is wrong with it. Null is refused everywhere: merged into an object it
would take away what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headgate_operator.field_error import FieldError, Kind, as_go

Shape = Callable[[Any, str], Iterator[FieldError]]
_LONGEST_SHOWN = 80


def refused(value: Any, path: str, why: str, remedy: str) -> FieldError:
    """A refusal that names field, value and remedy."""
    shown = as_go(value)
    shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
    return FieldError(path, Kind.INVALID, value, f"Invalid value: {shown}: {why}: {remedy}", remedy)


def anything(value: Any, path: str) -> Iterator[FieldError]:
    """Any value that takes nothing away."""
    if value is None:
        yield refused(value, path, "null would remove what is there", "leave the member out")


def text(value: Any, path: str) -> Iterator[FieldError]:
    """A string."""
    if not isinstance(value, str):
        yield refused(value, path, "must be a string", "write it in quotes")


def truth(value: Any, path: str) -> Iterator[FieldError]:
    """True or false."""
    if not isinstance(value, bool):
        yield refused(value, path, "must be true or false", "write it without quotes")


def one_of(*allowed: str | bool, remedy: str = "") -> Shape:
    """One of these values and no other; True is not 1 here."""

    def check(value: Any, path: str) -> Iterator[FieldError]:
        if not any(type(value) is type(each) and value == each for each in allowed):
            listed = ", ".join(as_go(each) for each in allowed)
            yield refused(value, path, f"must be {listed}", remedy or "change it, or leave the member out")

    return check


def whole(least: int, remedy: str) -> Shape:
    """A whole number of at least so much."""

    def check(value: Any, path: str) -> Iterator[FieldError]:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            yield refused(value, path, f"must be a whole number of at least {least}", remedy)

    return check


def items(each: Shape) -> Shape:
    """A list of such values."""

    def check(value: Any, path: str) -> Iterator[FieldError]:
        if not isinstance(value, list):
            yield refused(value, path, "must be a list", "give a list, or leave the member out")
            return
        for number, item in enumerate(value):
            yield from each(item, f"{path}[{number}]")

    return check


def members(
    known: Mapping[str, Shape],
    *,
    required: tuple[str, ...] = (),
    why: str = "may not be set here",
    remedies: Mapping[str, str] | None = None,
    otherwise: str = "remove it",
) -> Shape:
    """An object of these members. One that is not known is refused with its own remedy, or with `otherwise`."""

    def check(value: Any, path: str) -> Iterator[FieldError]:
        if not isinstance(value, dict):
            yield refused(value, path, "must be an object", "give its members, or leave it out")
            return
        for name in required:
            if name not in value:
                yield refused(value, f"{path}.{name}", "is required", "give it")
        for name, found in value.items():
            at = f"{path}.{name}"
            if name not in known:
                yield refused(found, at, why, (remedies or {}).get(name, otherwise))
            else:
                yield from known[name](found, at)

    return check
