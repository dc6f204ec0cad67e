"""What stands in a pipeline's way, in words that a condition can carry."""

from __future__ import annotations


class Problem(Exception):  # noqa: N818  # it ends up as a condition, where "Error" would say nothing
    """Something a person can mend: `reason` is one CamelCase word, `message` says what and what to do about it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
