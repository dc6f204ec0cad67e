"""Filters: what they see of an event, what they say when they are wrong, and that nothing is dropped silently."""

from __future__ import annotations

from typing import Any

import cel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Event, InvalidEventError, Lane
from headgate.filter import FUNCTIONS, MEMBERS, FilterError, compile_filter

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def event(data: Any = None, **members: Any) -> Event:
    return Event(**{"id": "i1", "body": msgspec.json.encode(data), "type": "video.uploaded", **members})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('event.type == "video.uploaded" && event.data.seconds > 0', True),
        ("event.data.seconds > 3", False),
        ("event.data.seconds > 2.5", True),
        ('event.id == "i1" && event.source == "camera" && event.lane == "high"', True),
        ("event.attempt == 2", True),
        ("event.key == null", True),
        ('event.time < timestamp("2024-01-01T00:00:00Z")', True),
        ("has(event.data.seconds)", True),
        ("has(event.data.missing) && event.data.missing > 1", False),
        ('event.data.missing > 1 || event.type == "video.uploaded"', True),
        ('"b" in event.data.tags', True),
        ('event.data.tags.exists(tag, tag == "b")', True),
        ('event["data"]["seconds"] == 3', True),
        ("size(event.data) == 3", True),
        ("event . data . deep . event . data == 1", True),
        ('event.data.deep == {"event": {"data": 1}}', True),
        ("event.data.seconds == 3 // event.type == nothing", True),
        (r'event.type == r"\" || event.data.seconds == 3', True),
        ('event.type.matches("^video[.]")', True),
        ("true", True),
    ],
)
def test_a_filter_sees_every_member_of_an_event(text: str, wanted: bool) -> None:
    data = {"seconds": 3, "tags": ["a", "b"], "deep": {"event": {"data": 1}}}
    given_event = event(data, source="camera", lane=Lane.HIGH, attempt=2, published_ms=1_700_000_000_000)
    assert compile_filter(text).matches(given_event) is wanted


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("", "the expression is empty", "leave it out"),
        ("event.type ==", "line 1, column 14: the expression ends too early", "complete it"),
        ('event.type = "a"', "line 1, column 12", "compare with =="),
        ('event.id == "a" and true', "line 1, column 17", "write && for and"),
        ("event.type == 'a' & true", "line 1, column 19", "write && for and"),
        ('event.type == "a" &&\n  event.data..x', "line 2, column 14", "event.data..x"),
        ("true && evnt.x > 1", "line 1, column 9: there is no variable 'evnt'", "only event"),
        ("true &&\n evnt.x > 1", "line 2, column 2", "only event"),
        ("lower(event.type) == 'a'", "line 1, column 1: there is no function 'lower'", "startsWith"),
        ("event.seconds > 1", "line 1, column 7: an event has no member 'seconds'", "event.data.seconds"),
        ('event.type.matches("(")', "line 1, column 20", "unclosed group"),
        ("event.type", "it gives a string ('event')", "compare it"),
        ("1", "it gives a number (1)", "compare it"),
        ('"a" + 1 == "b"', "it can never be evaluated", "string + int"),
        ("(" * 200 + "1" + ")" * 200, "nested too deeply", "fewer parentheses"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_remedy(text: str, place: str, remedy: str) -> None:
    with pytest.raises(FilterError) as told:
        compile_filter(text)
    assert place in str(told.value)
    assert remedy in str(told.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("event.data.seconds > 0", "event.data.seconds: no such key; guard it with has(event.data.seconds)"),
        ("event.data.deep.a.b == 1", "event.data.deep.a: no such key; guard it with has(event.data.deep.a)"),
        ("event.data.none.a == 1", "event.data.none is null, which has no member 'a'"),
        ("event.data.text > 1", "event.data.text is a string ('abc')"),
        ("event.data.list[7] == 1", "index out of bounds: 7"),
        ("event.data.one / 0 == 1", "division by zero"),
        ('event.key.startsWith("a")', "event.key is null"),
        ("event.data.one", "it gives a number (1), and a filter gives true or false"),
        ("event.data", "it gives an object, and a filter gives true or false"),
    ],
)
def test_what_cannot_be_evaluated_says_what_was_missing(text: str, told: str) -> None:
    data = {"one": 1, "text": "abc", "none": None, "list": [1], "deep": {}}
    with pytest.raises(FilterError) as error:
        compile_filter(text).matches(event(data))
    assert told in str(error.value)


def test_data_is_decoded_only_when_the_expression_mentions_it() -> None:
    no_json = event(type="a")
    no_json.body = b"{no json"
    assert compile_filter('event.type == "a" && event.id != "event"').matches(no_json)
    for text in ("event.data.x == 1", 'event["data"].x == 1', "event == event", "size(event) == 8"):
        with pytest.raises(InvalidEventError, match="not JSON"):
            compile_filter(text).matches(no_json)


@given(json_values, st.sampled_from("abc"), st.sampled_from("abc"))
def test_handing_over_only_what_is_mentioned_changes_no_answer(data: Any, one: str, two: str) -> None:
    whole = {"event": {"data": msgspec.json.decode(msgspec.json.encode(data))}}
    for text in (
        f"event.data.{one} == event.data.{two}.{one}",
        f"has(event.data.{one}.{two}) && event.data.{one} != null",
        f"has(event.data.{one}) || size(event.data.{two}) > 1",
        f"event.data.{one} == event.data.{one}.{two} || event.data == null",
    ):
        try:
            expected = cel.compile(text).execute(whole)
        except Exception:  # noqa: BLE001 - the library has no base class of its own
            with pytest.raises(FilterError):
                compile_filter(text).matches(event(data))
        else:
            assert compile_filter(text).matches(event(data)) is expected


CALLS = {
    "getDate": 'event.time.getDate() == 1 || timestamp("2020-01-01T00:00:00Z").getDate() == 1',
    "contains": 'event.type.contains("v")',
    "endsWith": 'event.type.endsWith("d")',
    "matches": 'event.type.matches("d")',
    "startsWith": 'event.type.startsWith("v")',
    "size": "size(event.type) > 0",
    "bytes": 'bytes("a") == b"a"',
    "double": 'double("1.5") > 1.0',
    "duration": 'duration("1h") > duration("1m")',
    "int": 'int("1") == 1',
    "string": 'string(1) == "1"',
    "timestamp": 'timestamp("2020-01-01T00:00:00Z") < timestamp("2021-01-01T00:00:00Z")',
    "type": "type(1) == int",
    "uint": "uint(1) == 1u",
}


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_every_function_that_is_named_is_there(function: str) -> None:
    text = CALLS.get(function, f'timestamp("2020-02-02T02:02:02.002Z").{function}() >= 0')
    assert compile_filter(text).matches(event()) is True


def test_every_member_is_there() -> None:
    for member in MEMBERS:
        assert compile_filter(f"has(event.{member})").matches(event({"a": 1}))


def test_remembered_answers_are_each_events_own_and_bounded() -> None:
    wanted = compile_filter('event.type == "a" && event.lane == "high"')
    for _ in range(2):
        for number in range(1500):
            for lane in Lane:
                kind = "a" if number == 1 else f"type-{number}"
                assert wanted.matches(event(type=kind, lane=lane)) is (number == 1 and lane is Lane.HIGH)
    assert wanted._answers is not None
    assert len(wanted._answers) <= 1000
