"""What a handler raises to say more than "try again"."""

from __future__ import annotations


class PermanentError(Exception):
    """Raised by a handler: this event will never succeed; dead-letter it at once, whatever attempts are left."""


class RetryLaterError(Exception):
    """Raised by a handler: a failed attempt whose next one must not come before `seconds` are over."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class TargetGoneError(Exception):
    """Raised by a handler: what it hands events to is gone for good; its branch closes, and its events wait."""
