"""Traceparents: what is one, what is ignored, and whose goes along with an event."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headgate.event import TRACE, Lane, NewEvent, from_fields, to_fields
from headgate.tracing import current_traceparent, format_traceparent, read_traceparent, valid_traceparent

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE_ID}-{SPAN_ID}-01"
MALFORMED = (
    "",
    "x",
    f"ff-{TRACE_ID}-{SPAN_ID}-01",
    f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
    f"00-{'0' * 32}-{SPAN_ID}-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
    f"00-{TRACE_ID}-{SPAN_ID}",
    f"{GOOD}-more",
    f"{GOOD}\n",
    f" {GOOD}",
    f"01{GOOD[2:]}more",
)


def trace_of(fields: Sequence[bytes]) -> bytes | None:
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(TRACE)


@pytest.mark.parametrize(
    "text", [GOOD, f"00{GOOD[2:-2]}00", f"01{GOOD[2:]}", f"01{GOOD[2:]}-what.the-future-holds"]
)
def test_what_is_well_formed_passes_as_it_is(text: str) -> None:
    assert valid_traceparent(text) == text
    assert read_traceparent(text.encode()) == text


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_malformed_is_ignored(text: str) -> None:
    assert valid_traceparent(text) is None
    assert read_traceparent(text.encode()) is None


@given(st.binary(max_size=80))
def test_no_bytes_make_an_event_invalid(field: bytes) -> None:
    event = from_fields(b"1-0", [b"data", b"1", TRACE, field], Lane.NORMAL, 0)
    assert event.traceparent is None or event.traceparent.encode() == field


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_span_contexts_traceparent_is_what_opentelemetry_reads(
    trace_id: int, span_id: int, flags: int
) -> None:
    context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))
    text = format_traceparent(context)
    assert valid_traceparent(text) == text
    read = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": text}))
    assert (read.get_span_context().trace_id, read.get_span_context().span_id) == (trace_id, span_id)


def test_an_events_own_goes_before_the_current_one_unless_it_is_malformed() -> None:
    other = f"00-{TRACE_ID}-{'1' * 16}-01"
    for own, sent in ((GOOD, GOOD), (None, other), ("nonsense", other)):
        assert trace_of(to_fields(NewEvent(data=1, traceparent=own), "i", 1, other)) == sent.encode()
    assert trace_of(to_fields(NewEvent(data=1, traceparent="nonsense"), "i", 1)) is None


def test_the_current_span_is_whose_goes_along() -> None:
    assert current_traceparent() is None
    span = NonRecordingSpan(
        SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=False, trace_flags=TraceFlags(1))
    )
    with trace.use_span(span):
        assert current_traceparent() == GOOD
    assert current_traceparent() is None


def test_without_the_extra_a_worker_says_what_is_missing_and_works() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None  # as if it were not installed
from headgate.contract import BranchContract
from headgate.handlers import load_handler
from headgate.handlers.traced import traced
contract = BranchContract(namespace="n", pipeline="p", branch="b", function="builtins:print")
handler = load_handler(contract)
assert traced(handler, contract, "w") is handler
"""
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "pip install 'headgate[otel]'" in said.stdout
