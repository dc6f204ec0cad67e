"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the `traceparent` that events carry, without OpenTelemetry.

A malformed one is ignored, as the recommendation asks: it neither travels on nor makes an event invalid. Spans are made
in handlers/traced.py, by workers that are told where to send them.
"""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import Any

# Version ff is forbidden, and so are ids of zeros; versions to come may have more fields, version 00 may not.
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LENGTH = 55

handled_under: ContextVar[str | None] = ContextVar("headgate_handled_under", default=None)
"""The traceparent of the span that this task's last event was handled in; what came of that event belongs to it."""


def valid_traceparent(text: str | None) -> str | None:
    """A traceparent as it is when it is well-formed, otherwise None."""
    if text is None or _VALID.match(text) is None:
        return None
    if len(text) == _LENGTH or (text[:2] != "00" and text[_LENGTH] == "-"):
        return text
    return None


def read_traceparent(field: bytes | None) -> str | None:
    """The traceparent in a field of an entry; None for what is none."""
    return valid_traceparent(field.decode("ascii", "replace")) if field else None


def format_traceparent(context: Any) -> str | None:
    """An OpenTelemetry span context as a traceparent; None when it is no valid one."""
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def current_traceparent() -> str | None:
    """The traceparent of the current span, or of the one the task's last event was handled in; None without tracing."""
    # Whoever has a current span has imported this; nobody else is made to.
    api = sys.modules.get("opentelemetry.trace")
    if api is not None and (found := format_traceparent(api.get_current_span().get_span_context())):
        return found
    return handled_under.get()
