"""The event's wire form: what is published is what is handled, and no bytes in an entry surprise anybody."""

from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headgate.event import Event, InvalidEventError, Lane, NewEvent, encode_data, from_fields, to_fields

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
words = st.text(min_size=1)
times = st.integers(0, 10**14 - 1)
events = st.builds(
    NewEvent,
    data=json_values,
    type=st.text(),
    source=st.text(),
    key=st.none() | st.text(),
    lane=st.sampled_from(Lane),
)
known_names = st.sampled_from([b"data", b"id", b"type", b"source", b"key", b"time", b"lane", b"attempt"])


@given(events, words, times, st.sampled_from(Lane), st.integers(0, 63), st.integers(1, 100))
@example(NewEvent(data=1), "a", 7, Lane.LOW, 3, 2)
@example(NewEvent(data=1, key=""), "a", 7, Lane.LOW, 3, 2)
@example(NewEvent(data=1, key="k"), "a", 7, Lane.LOW, 3, 2)
def test_what_is_published_is_what_is_handled(  # noqa: PLR0917 - hypothesis gives them by place
    new: NewEvent, event_id: str, time_ms: int, lane: Lane, partition: int, attempt: int
) -> None:
    event = from_fields(b"5-0", to_fields(new, event_id, time_ms), lane, partition, attempt)
    assert event.data == new.data
    assert (event.id, event.type, event.source, event.key) == (event_id, new.type, new.source, new.key)
    assert (event.lane, event.partition, event.attempt) == (lane, partition, attempt)
    assert event.published_ms == time_ms


@given(st.lists(st.tuples(known_names | st.binary(), st.binary()), max_size=8))
@example([(b"data", b"1"), (b"id", b"i"), (b"time", b"9" * 400)])
@example([(b"data", b"1"), (b"id", b"i"), (b"time", b"9" * 5000)])
@example([(b"data", b"1"), (b"id", b"i"), (b"time", b"-1")])
@example([(b"data", b"1"), (b"id", b""), (b"time", b"1_0")])
@example([(b"data", b"1"), (b"id", b"\xff"), (b"time", b"1")])
def test_any_bytes_in_an_entry_make_an_event_or_an_invalid_event_error(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    fields = [part for pair in pairs for part in pair]
    with contextlib.suppress(InvalidEventError):
        event = from_fields(b"1700000000000-0", fields, Lane.NORMAL, 0)
        assert event.id
        assert -(10**15) < event.published_ms < 10**15
        assert event.data is event.data


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b"1e999", b"[" * 100_000])
def test_data_that_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(InvalidEventError, match="not JSON"):
        _ = Event(id="i", body=body).data


@given(st.lists(st.binary(), max_size=5).filter(lambda fields: len(fields) % 2))
def test_half_a_field_is_an_invalid_event_error_too(fields: list[bytes]) -> None:
    with pytest.raises(InvalidEventError):
        from_fields(b"1-0", fields, Lane.LOW, 0)


def test_an_entry_without_data_says_which_field_to_add() -> None:
    with pytest.raises(InvalidEventError, match=r"data: .*payload.*add it"):
        from_fields(b"1-0", [b"payload", b"1"], Lane.LOW, 0)


def test_what_is_absent_has_a_meaning() -> None:
    event = from_fields(b"1700000000000-3", [b"data", b"[1]"], Lane.HIGH, 2)
    assert event.id == "high-1700000000000-3"
    assert event.published_ms == 1700000000000
    assert (event.type, event.source, event.key, event.attempt) == ("event", "", None, 1)
    assert event.idempotency_key == "2/high-1700000000000-3"


def test_defaults_are_left_out_of_an_entry() -> None:
    assert to_fields(NewEvent(data=1), "i", 5) == [b"data", b"1", b"id", b"i", b"time", b"5"]


def test_the_idempotency_key_is_the_same_for_every_attempt() -> None:
    first, second = (Event(id="i", body=b"1", partition=3, attempt=attempt) for attempt in (1, 2))
    assert first.idempotency_key == second.idempotency_key == "3/i"


@given(events, words, times)
def test_an_event_is_the_same_in_another_process(new: NewEvent, event_id: str, time_ms: int) -> None:
    event = from_fields(b"5-0", to_fields(new, event_id, time_ms), new.lane, 1, 2)
    assert event.data == new.data
    there = pickle.loads(pickle.dumps(event))  # noqa: S301 - our own
    for name in (
        "id",
        "body",
        "type",
        "source",
        "key",
        "lane",
        "partition",
        "published_ms",
        "attempt",
        "data",
    ):
        assert getattr(there, name) == getattr(event, name), name


def test_lanes_are_in_the_order_they_are_read() -> None:
    assert list(Lane) == [Lane.HIGH, Lane.NORMAL, Lane.LOW]


@pytest.mark.parametrize("value", [object(), {1: object()}, lambda: None])
def test_what_json_cannot_carry_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        encode_data(value)
