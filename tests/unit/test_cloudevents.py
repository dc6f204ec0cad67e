"""Events as CloudEvents, as the specification's own library reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from headgate.contract import BranchContract
from headgate.event import Event
from headgate.handlers.cloudevents import Binding, encode_value

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BINDING = Binding(BranchContract(namespace="shop", pipeline="orders", branch="invoice", function="m:f"))


def event(**members: Any) -> Event:
    return Event(**({"id": "e1", "body": b'{"n": 1}', "published_ms": 1_766_000_000_123} | members))


def read_binary(one: Event) -> Any:
    return from_binary(HTTPMessage(headers=BINDING.binary(one), body=one.body), JSONFormat())


def test_an_event_in_binary_mode_is_read_as_it_was() -> None:
    found = read_binary(
        event(
            id='o"1 %41',
            type="order.placed",
            source="/shops/ü",
            key="käse ☂\n",
            traceparent=TRACEPARENT,
            attempt=3,
            fencing_token=7,
        )
    )
    assert found.get_id() == 'o"1 %41'
    assert found.get_type() == "order.placed"
    assert found.get_source() == "/shops/ü"
    assert found.get_time() == datetime(2025, 12, 17, 19, 33, 20, 123_000, UTC)
    assert found.get_datacontenttype() == "application/json"
    assert found.get_data() == {"n": 1}
    attributes = found.get_attributes()
    assert attributes["partitionkey"] == "käse ☂\n"
    assert attributes["traceparent"] == TRACEPARENT
    assert attributes["specversion"] == "1.0"


def test_headers_beside_the_binding_say_attempt_trace_and_fencing_token() -> None:
    headers = BINDING.binary(event(attempt=3, traceparent=TRACEPARENT, fencing_token=7))
    assert headers["headgate-attempt"] == "3"
    assert headers["traceparent"] == TRACEPARENT
    assert headers["headgate-fencing-token"] == "7"
    assert "headgate-fencing-token" not in BINDING.binary(event())


def test_what_an_event_does_not_have_is_left_out_or_stands_for_its_pipeline() -> None:
    headers = BINDING.binary(event(source="", type="", key=None, published_ms=-1))
    assert headers["ce-source"] == "/shop/orders"
    assert headers["ce-type"] == "event"
    assert not {"ce-time", "ce-partitionkey", "traceparent", "ce-traceparent"} & headers.keys()


@pytest.mark.parametrize("published_ms", [-1, 253_402_300_800_000, 10**15])
def test_a_time_no_calendar_has_is_left_out(published_ms: int) -> None:
    assert "ce-time" not in BINDING.binary(event(published_ms=published_ms))


@pytest.mark.parametrize("traceparent", ["", "rubbish", TRACEPARENT + "\r\nx: y", TRACEPARENT.upper()])
def test_a_traceparent_that_is_none_is_not_passed_on(traceparent: str) -> None:
    assert "traceparent" not in BINDING.binary(event(traceparent=traceparent))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_a_header_and_is_read_as_it_was(text: str) -> None:
    assert all("!" <= letter <= "~" for letter in encode_value(text))
    headers = BINDING.binary(event(id=text, source=text, type=text, key=text))
    found = from_binary(HTTPMessage(headers=headers, body=b"1"), JSONFormat()).get_attributes()
    assert {found[name] for name in ("id", "source", "type", "partitionkey")} == {text}


def test_a_batch_is_read_event_by_event() -> None:
    events = [event(id=f"e{n}", body=json.dumps({"n": n}).encode(), attempt=n + 1) for n in range(3)]
    written = json.loads(BINDING.batch(events))
    for number, (one, row) in enumerate(zip(events, written, strict=True)):
        found = from_structured(HTTPMessage(headers={}, body=json.dumps(row).encode()), JSONFormat())
        assert (found.get_id(), found.get_data()) == (one.id, {"n": number})
        assert found.get_datacontenttype() == "application/json"
        attributes = found.get_attributes()
        assert attributes["attempt"] == number + 1
        assert attributes["idempotencykey"] == BINDING.idempotency_key(one)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 63))
def test_an_idempotency_key_is_a_header_of_its_own_event_alone(text: str, partition: int) -> None:
    key = BINDING.idempotency_key(event(id=text, partition=partition))
    assert all("!" <= letter <= "~" for letter in key)
    assert "." not in key
    assert len(key) <= 512
    assert key == BINDING.idempotency_key(event(id=text, partition=partition, attempt=9))
    assert key != BINDING.idempotency_key(event(id=text + "x", partition=partition))
    assert key != BINDING.idempotency_key(event(id=text, partition=partition + 1))


def test_an_idempotency_key_names_branch_partition_and_event() -> None:
    assert BINDING.idempotency_key(event(id="a.b", partition=2)) == "shop/orders/invoice/2/a%2Eb"
    long = BINDING.idempotency_key(event(id="x" * 10_000))
    assert long.startswith("sha256-")
    assert long != BINDING.idempotency_key(event(id="x" * 10_001))


def test_a_batchs_key_is_of_its_events_and_their_order() -> None:
    a, b = event(id="a"), event(id="b")
    assert BINDING.batch_key([a, b]) == BINDING.batch_key([event(id="a", attempt=2), b])
    assert len({BINDING.batch_key(some) for some in ([a], [b], [a, b], [b, a])}) == 4
