"""What a target's answer says: a result, single events that failed, or a failure with the time of the next attempt."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import RetryLaterError, TargetGoneError
from headgate.handlers.base import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULT_BYTES = 65_536
_SHOWN_BYTES = 200
_LONGEST_PAUSE_SECONDS = 3600.0
_GONE = 410
_BUSY = (429, 503)


class StatusError(Exception):
    """A target answered an event with a status that does not settle it; names the target, the status and its words."""


class Answer(msgspec.Struct, frozen=True):
    """A target's answer. `body` is its beginning, whole where `is_whole`; header names are of any case."""

    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool

    @property
    def tells_of_the_target(self) -> bool:
        """Whether it is the target that fails, and not this event that it refuses."""
        return self.status >= 500

    @property
    def pause_seconds(self) -> float | None:
        """How long the target wants to be left alone (429 or 503 with Retry-After), at most an hour."""
        if self.status not in _BUSY:
            return None
        seconds = retry_after(self.headers.get("Retry-After", ""), time.time())
        return None if seconds is None else min(seconds, _LONGEST_PAUSE_SECONDS)

    def result(self) -> Any:
        """The result of a settled event: the body where it is JSON and no longer than RESULT_BYTES, else None.

        Raises TargetGoneError on 410, RetryLaterError on a pause asked for, StatusError on all else but 2xx.
        """
        self._raise_unless_settled()
        return self._json() if self.is_whole else None

    def results(self, count: int) -> list[Any] | None:
        """Of a batch of `count`: each event's result or error, or None when all are done.

        A JSON list of as many elements lets single events fail: `{"error": "..."}`, `{"result": ...}` or null.
        Raises as `result` does, and StatusError for a JSON answer too long to be read.
        """
        self._raise_unless_settled()
        if self._is_json and not self.is_whole:
            raise StatusError(
                f"{self.target} answered {self.status} with more JSON than is read of a batch's answer; "
                "which events failed is unknown"
            )
        rows = self._json()
        if not isinstance(rows, list) or len(rows) != count:
            return None
        return [_outcome(row) for row in rows]

    @property
    def _is_json(self) -> bool:
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_plain = self.headers.get("Content-Encoding", "identity").lower() == "identity"
        return is_plain and (kind == "application/json" or kind.endswith("+json"))

    def _json(self) -> Any:
        if not self._is_json:
            return None
        try:
            return msgspec.json.decode(self.body)
        except (ValueError, RecursionError):
            return None

    def _raise_unless_settled(self) -> None:
        if 200 <= self.status < 300:
            return
        text = f"{self.target} answered {self.status}"
        if 300 <= self.status < 400:
            text += ", and redirects are not followed"
        if self.body:
            text += f": {self.body[:_SHOWN_BYTES].decode(errors='replace')}"
        if self.status == _GONE:
            raise TargetGoneError(text)
        pause = self.pause_seconds
        if pause is not None:
            raise RetryLaterError(text, pause)
        raise StatusError(text)


def _outcome(row: Any) -> Any:
    if isinstance(row, dict):
        if "error" in row:
            return RemoteError(str(row["error"]))
        return row.get("result")
    return None


def retry_after(value: str, now: float) -> float | None:
    """Seconds from `now` (since 1970) that a Retry-After header asks for; None for what is none (RFC 9110, 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return None
