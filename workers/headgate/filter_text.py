"""Reading a filter's text: which members of `event` it mentions, and where a mistake is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = 'for example event.type == "video.uploaded" && event.data.seconds > 0'
_LITERAL = re.compile(
    r"""[bB]?[rR][bB]?(?:"[^"\n]*"|'[^'\n]*')"""
    r"""|[bB]?(?:"{3}.*?"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|//[^\n]*""",
    re.DOTALL,
)
# `event` and the members after it, unless it is itself a member; a name before a parenthesis is a method.
_CHAIN = re.compile(r"""(?<![\w)\]}"]\.)(?<!\w)event\b((?:\.[A-Za-z_]\w*)*)(\(?)""")
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_SHOWN = 60  # characters of a line in an error


def names_only(text: str) -> str:
    """The expression without literals, comments and spaces within chains of members."""
    bare = _LITERAL.sub(lambda found: " " if found[0].startswith("//") else '""', text)
    return re.sub(r"\s*([.,(])\s*", r"\1", bare)


def member_paths(bare: str) -> Iterator[tuple[str, ...]]:
    """The paths of members after `event` in what `names_only` gave; () where it stands alone."""
    for found in _CHAIN.finditer(bare):
        path = tuple(found[1].split(".")[1:])
        yield path[:-1] if found[2] else path


def explain_syntax(text: str, said: str) -> str:
    """What the library says of a text it cannot parse, shortened, with the remedy."""
    found = _PLACE.search(said)
    if found is None:
        return f"{text[:_SHOWN]!r}: {said[:200]}; correct it, {EXAMPLE}"
    what = found[3].partition(" expecting ")[0]
    if "<EOF>" in what:
        what, remedy = "the expression ends too early", "complete it"
    elif re.search(r"error at: '=", what):
        remedy = "compare with =="
    elif re.search(r"error at: '[&|]|input '(?:and|or)'", what):
        remedy = "write && for and, || for or"
    elif "unsupported syntax" in what:
        remedy = "leave it out"
    elif "Recursion limit" in said:
        what, remedy = "it is nested too deeply", "write it with fewer parentheses"
    else:
        remedy = f"correct it, {EXAMPLE}"
    line = text.split("\n")[int(found[1]) - 1]
    return f"line {found[1]}, column {found[2]}: {what} (at {_around(line, int(found[2]) - 1)}); {remedy}"


def _around(line: str, column: int) -> str:
    start = max(0, column - _SHOWN // 2)
    return repr(line[start : start + _SHOWN])


def where(text: str, name: str) -> str:
    """Line and column of a name's first place."""
    found = re.search(rf"\b{re.escape(name)}\b", text)
    return place(text, found.start() if found else 0)


def place(text: str, at: int) -> str:
    """Line and column of a position, from 1."""
    before = text[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}"
