"""The sieve: what is handled, what is filtered out, and what becomes a dead letter with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.contract import BranchContract
from headgate.event import Event
from headgate.filter import FilterError
from headgate.schema import SchemaError
from headgate.streams.outcome import Delivery
from headgate.worker.sieve import make_sieve

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


def test_settings_that_cannot_be_compiled_are_refused() -> None:
    with pytest.raises(FilterError):
        make_sieve(contract(filter="event.typ == 'a'"))
    with pytest.raises(SchemaError):
        make_sieve(contract(schema={"type": "nothing"}))
