"""The sieve: what is handled, what is filtered out, and what becomes a dead letter with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.contract import BranchContract
from headgate.event import Event
from headgate.filter import FilterError
from headgate.schema import SchemaError
from headgate.streams.outcome import Delivery
from headgate.worker.sieve import make_sieve

json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())
NUMBER = {"properties": {"n": {"type": "number"}}, "required": ["n"]}


def contract(**settings: Any) -> BranchContract:
    return BranchContract(namespace="test", pipeline="canal", branch="a", function="m:f", **settings)


def deliveries(*bodies: bytes) -> list[Delivery]:
    return [
        Delivery(Event(id=str(at), body=body), 2, b"%d-0" % at, "w.x", 0.0) for at, body in enumerate(bodies)
    ]


def sift(given: list[Delivery], **settings: Any) -> tuple[list[str], list[str], dict[str, str]]:
    """Ids kept, ids filtered out, and why some are not handled."""
    sieve = make_sieve(contract(**settings))
    assert sieve is not None
    keep, filtered = sieve.sift(given)
    return (
        [each.event.id for each in keep],
        [each.event.id for each in filtered],
        {each.event.id: each.invalid for each in given if each.invalid is not None},
    )


@pytest.mark.parametrize("schema", [None, True])
def test_a_branch_that_takes_everything_has_no_sieve(schema: bool | None) -> None:
    assert make_sieve(contract(schema=schema)) is None


def test_a_filter_keeps_what_it_wants_in_order() -> None:
    given = deliveries(b'{"n":1}', b'{"n":5}', b'{"n":2}', b'{"n":9}')
    assert sift(given, filter="event.data.n > 1") == (["1", "2", "3"], ["0"], {})


def test_what_the_filter_cannot_judge_is_kept_with_the_reason() -> None:
    given = deliveries(b'{"n":5}', b"{}", b"{no json")
    keep, filtered, invalid = sift(given, filter="event.data.n > 1")
    assert (keep, filtered) == (["0", "1", "2"], [])
    assert invalid["1"].startswith("filter: event.data.n: no such key")
    assert "not JSON" in invalid["2"]


def test_what_does_not_conform_is_never_filtered_out() -> None:
    given = deliveries(b'{"n":5}', b'{"n":"5"}', b'{"n":0}', b"{}", b"{no json")
    keep, filtered, invalid = sift(given, filter="event.data.n > 1", schema=NUMBER)
    assert (keep, filtered) == (["0", "1", "3", "4"], ["2"])
    assert invalid["1"].startswith('data.n: "5" is not of type "number"')
    assert '"n" is a required property' in invalid["3"]
    assert "not JSON" in invalid["4"]


def test_the_schema_false_refuses_everything() -> None:
    _, _, invalid = sift(deliveries(b"1"), schema=False)
    assert "schema" in invalid["0"]


def test_what_is_no_event_stays_so() -> None:
    (one,) = given = deliveries(b"")
    one.invalid = "not an event: data"
    assert sift(given, filter="event.data.n > 1") == (["0"], [], {"0": "not an event: data"})


@given(
    st.lists(
        st.tuples(st.binary(max_size=20) | json_bodies, st.integers(0, 10**15 - 1), st.text() | st.none())
    ),
    st.sampled_from(
        [
            'event.data.a.b == 1 || event.data.b > event.data.a || event.data == "x"',
            'event["data"]["a"].size() > 1 && event.key.startsWith("a")',
            "event.data.exists(x, x.a == 1) || event.data.all(x, x > 2)",
            "event.time.getFullYear() + event.data == 2 || string(event.time) == event.id",
            "event.data in [1, 2] || int(event.data) / event.data > 1",
            "event",
        ]
    ),
    st.sampled_from(
        [None, NUMBER, {"$ref": "#/$defs/x", "$defs": {"x": {"items": {"$ref": "#/$defs/x"}, "minimum": 3}}}]
    ),
)
def test_no_event_stops_the_sieve_and_each_comes_out_once(
    events: list[tuple[bytes, int, str | None]], text: str, schema: Any
) -> None:
    given_events = [
        Delivery(Event(id=str(at), body=body, published_ms=ms, key=key), 2, b"1-0", "w.x", 0.0)
        for at, (body, ms, key) in enumerate(events)
    ]
    keep, filtered, invalid = sift(given_events, filter=text, schema=schema)
    assert sorted(map(int, keep + filtered)) == list(range(len(events)))
    assert all(invalid.values())
    assert not invalid.keys() & set(filtered)


def test_settings_that_cannot_be_compiled_are_refused() -> None:
    with pytest.raises(FilterError):
        make_sieve(contract(filter="event.typ == 'a'"))
    with pytest.raises(SchemaError):
        make_sieve(contract(schema={"type": "nothing"}))
