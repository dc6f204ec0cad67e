"""Which errors are worth another attempt: regular expressions over an error's text, the first match decides.

The expressions run on an engine of linear time (Rust's regex, by way of the JSON Schema library), because errors hold
text from anywhere and a backtracking engine can be stalled by it. What linear time has no room for, look-around and
back-references, is refused when the manifest is applied.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import jsonschema_rs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import RetryRule

_SEARCHED = 2000  # characters of an error's text
_SYNTAX = jsonschema_rs.RegexOptions()


class RetryRuleError(ValueError):
    """A retry rule's `match` is no regular expression: says where, what is wrong and what to do."""


class RetryRules:
    """Compiled rules; raises RetryRuleError for the first that is none."""

    def __init__(self, rules: Sequence[RetryRule]) -> None:
        compiled = []
        for at, rule in enumerate(rules):
            try:
                compiled.append((_searcher(rule.match), rule.retryable))
            except RetryRuleError as error:
                raise RetryRuleError(f"rules[{at}].match: {error}") from error
        self._rules = tuple(compiled)

    def is_retryable(self, error: str) -> bool:
        """Whether an error (`Type: message`) is worth another attempt; what no rule matches is."""
        if self._rules:
            error = error[:_SEARCHED]
            for searcher, retryable in self._rules:
                if searcher.is_valid(error):
                    return retryable
        return True


def check_rules(rules: Sequence[RetryRule]) -> None:
    """Raises RetryRuleError naming the first rule whose `match` is no regular expression."""
    RetryRules(rules)


def check_match(match: str) -> None:
    """Raises RetryRuleError when the text is no regular expression."""
    _searcher(match)


def _searcher(match: str) -> jsonschema_rs.Validator:
    """JSON Schema's `pattern` searches, as retry rules do."""
    try:
        return jsonschema_rs.validator_for({"pattern": match}, pattern_options=_SYNTAX)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise RetryRuleError(f"{match[:80]!r} {_reason(match)}") from error


def _reason(match: str) -> str:
    """Why the engine refused: the standard library's own parser knows places, and look-around."""
    try:
        re.compile(match)
    except re.error as error:
        where = "" if error.pos is None else f" at character {error.pos + 1}"
        return f"is no regular expression: {error.msg}{where}; put a \\ before a character that stands for itself"
    except (OverflowError, RecursionError):
        pass
    return "is too large, or has look-around or a back-reference, which linear time has no room for; write it without"
