"""Filters: which events a branch wants, as one CEL expression (https://cel.dev) over `event`.

The variable has the members `id`, `type`, `source`, `key` (null without one), `lane` ("high", "normal", "low"),
`attempt`, `time` (a timestamp) and `data`. Most of an evaluation's cost is handing values to the CEL library, so only
what the expression mentions is handed over, and the event's data is decoded only when it is mentioned at all.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cel

from headgate.event import InvalidEventError
from headgate.filter_text import EXAMPLE, explain_syntax, member_paths, names_only, place, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.event import Event


class FilterError(ValueError):
    """A filter cannot be compiled or evaluated: says where, what is wrong and what to do."""


def _time(event: Event) -> datetime:
    try:
        return datetime.fromtimestamp(event.published_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise FilterError(
            f"event.time: {event.published_ms} ms is after the year 9999; correct it"
        ) from error


MEMBERS: dict[str, Callable[[Event], Any]] = {
    "id": lambda event: event.id,
    "type": lambda event: event.type,
    "source": lambda event: event.source,
    "key": lambda event: event.key,
    "lane": lambda event: event.lane.value,
    "attempt": lambda event: event.attempt,
    "time": _time,
    "data": lambda event: event.data,
}
_SAMPLE = {
    "id": "1",
    "type": "event",
    "source": "",
    "key": "k",
    "lane": "normal",
    "attempt": 1,
    "time": datetime.fromtimestamp(0, UTC),
}
# What the library has; operators are functions too, by names that are not alphanumeric.
FUNCTIONS = frozenset(
    (
        *("contains", "endsWith", "matches", "size", "startsWith"),
        *("bytes", "double", "duration", "int", "string", "timestamp", "type", "uint"),
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
        *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    )
)
_TYPES = frozenset(("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"))
_BOUND = re.compile(r"\.(?:all|exists|exists_one|existsOne|filter|map)\((\w+),")
_MATCHES = re.compile(r"""\.matches\(\s*([rR]?(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))\s*\)""")
_FEW_VALUES = frozenset(("type", "source", "lane"))
_ANSWERS = 1000
_SHOWN = 60  # characters of a value or an expression in an error

_Path = tuple[str, ...]
_Tree = dict[str, Any]  # members by name; None stands for the whole value


class Filter:
    """A compiled filter; made by `compile_filter`."""

    def __init__(self, text: str, program: cel.Program, paths: tuple[_Path, ...]) -> None:
        self.text = text
        self._program = program
        self._paths = paths
        wanted = _tree(paths)
        self._members = tuple((name, MEMBERS[name], wanted[name]) for name in MEMBERS if name in wanted)
        # The answer for members of few values is looked up: a tenth of the cost of evaluating it again.
        self._answers: dict[tuple[Any, ...], bool] | None = {} if wanted.keys() <= _FEW_VALUES else None

    def matches(self, event: Event) -> bool:
        """Whether the branch wants the event.

        Raises FilterError when the expression cannot be evaluated over it or gives no boolean, InvalidEventError when
        the expression mentions the data and that is no JSON.
        """
        answers = self._answers
        if answers is None:
            return self._evaluate(event)
        seen = tuple([get(event) for _, get, _ in self._members])
        found = answers.get(seen)
        if found is None:
            found = self._evaluate(event)
            if len(answers) < _ANSWERS:
                answers[seen] = found
        return found

    def _evaluate(self, event: Event) -> bool:
        try:
            value = {name: _prune(get(event), tree) for name, get, tree in self._members}
            found = self._program.execute({"event": value})
        except (InvalidEventError, FilterError):
            raise
        except (
            Exception
        ) as error:  # the library has no base class of its own; whatever it says is the event's reason
            raise FilterError(self._explain(error, event)) from error
        if found is True or found is False:
            return found
        raise FilterError(_no_boolean(found))

    def _explain(self, error: Exception, event: Event) -> str:
        """What was missing or of the wrong type, by walking the paths that the expression mentions."""
        chains = [path for path in self._paths if path]
        steps = [(path, *_walk(path, event)) for path in chains]
        if isinstance(error, KeyError):
            missing = str(error.args[0]) if error.args else ""
            for path, depth, _ in steps:
                if depth < len(path) and path[depth] == missing:
                    name = _name(path[: depth + 1])
                    return f"{name}: no such key; guard it with has({name})"
            return f"no such key: {missing!r}; guard it with has(...)"
        for path, depth, value in steps:
            if depth < len(path):
                return (
                    f"{_name(path[:depth])} is {_kind(value)}, which has no member {path[depth]!r}; guard it"
                )
        said = str(error).split(". ")[0].partition(": the operation")[0]
        said = said.replace("Undefined variable or function", "no such function for these types")
        known = ", ".join(f"{_name(path)} is {_kind(value)}" for path, _, value in steps[:5])
        return f"{said[:200]}{f' ({known})' if known else ''}; guard it, or convert with int(), double() or string()"


def compile_filter(text: str) -> Filter:
    """A filter from its text; raises FilterError with line and column, what is wrong and the remedy."""
    if not text.strip():
        raise FilterError(
            f"the expression is empty: leave it out to get every event, or write one, {EXAMPLE}"
        )
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise FilterError(explain_syntax(text, str(error))) from error
    bare = names_only(text)
    paths = tuple(dict.fromkeys(member_paths(bare)))
    _check_names(text, bare, program, paths)
    _check_patterns(text)
    _try(program, paths)
    return Filter(text, program, paths)


def _check_names(text: str, bare: str, program: cel.Program, paths: tuple[_Path, ...]) -> None:
    known = {"event", *_BOUND.findall(bare), *_TYPES}
    for name in program.variables():
        if name not in known:
            raise FilterError(f"{where(text, name)}: there is no variable {name!r}, only event; {EXAMPLE}")
    for name in program.functions():
        if name.isalnum() and name not in FUNCTIONS:
            functions = ", ".join(sorted(FUNCTIONS))
            raise FilterError(
                f"{where(text, name)}: there is no function {name!r}; these are, and has(): {functions}"
            )
    for path in paths:
        if path and path[0] not in MEMBERS:
            members = ", ".join(MEMBERS)
            data = f"; in the data it is event.data.{path[0]}"
            raise FilterError(
                f"{where(text, path[0])}: an event has no member {path[0]!r}, only {members}{data}"
            )


def _check_patterns(text: str) -> None:
    for found in _MATCHES.finditer(text):
        try:
            cel.evaluate(f'"".matches({found[1]})')
        except RuntimeError as error:
            said = " ".join(str(error).partition("not a valid regex:")[2].split()) or str(error)
            said = said.rpartition("error: ")[2].removesuffix(". Check function arguments and their types.")
            where_it_is = place(text, found.start(1))
            raise FilterError(f"{where_it_is}: {found[1]} is no regular expression: {said}") from error


def _try(program: cel.Program, paths: tuple[_Path, ...]) -> None:
    """Refuses what gives no boolean whatever the event; what depends on data shows at run time only."""
    if any(path[:1] in {(), ("data",)} for path in paths):
        return
    try:
        found = program.execute({"event": _SAMPLE})
    except Exception as error:
        if paths:
            return  # it may be right for another event
        raise FilterError(f"it can never be evaluated: {error}") from error
    if not isinstance(found, bool):
        raise FilterError(_no_boolean(found))


def _tree(paths: tuple[_Path, ...]) -> _Tree:
    """The members to hand over: nested by name, None where the whole value is wanted."""
    if () in paths:
        return dict.fromkeys(MEMBERS)
    tree: _Tree = {}
    for path in sorted(paths, key=len):  # the shorter first: it takes what the longer ones ask for along
        node = tree
        for at, name in enumerate(path):
            if at == len(path) - 1:
                node[name] = None
            elif node.setdefault(name, {}) is None:
                break
            else:
                node = node[name]
    return tree


def _prune(value: Any, tree: _Tree | None) -> Any:
    if tree is None or type(value) is not dict:
        return value
    return {name: _prune(value[name], inner) for name, inner in tree.items() if name in value}


def _walk(path: _Path, event: Event) -> tuple[int, Any]:
    """How far a path leads into an event, and the value there."""
    value: Any = MEMBERS[path[0]](event)
    for depth, name in enumerate(path[1:], 1):
        if not isinstance(value, dict) or name not in value:
            return depth, value
        value = value[name]
    return len(path), value


def _name(path: _Path) -> str:
    return ".".join(("event", *path))


def _kind(value: Any) -> str:
    known = {type(None): "null", list: "a list", dict: "an object", datetime: "a timestamp"}
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, int | float):
        return f"a number ({str(value)[:_SHOWN]})"
    if isinstance(value, str):
        return f"a string ({value[:_SHOWN]!r})"
    return known.get(type(value), f"a {type(value).__name__}")


def _no_boolean(value: Any) -> str:
    return f"it gives {_kind(value)}, and a filter gives true or false: compare it, {EXAMPLE}"
