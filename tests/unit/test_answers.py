"""What a target's answer means for its event."""

from __future__ import annotations

import email.utils
from typing import Any

import pytest

from headgate.errors import RetryLaterError, TargetGoneError
from headgate.handlers.answers import Answer, StatusError, retry_after
from headgate.handlers.base import RemoteError

NOW = 1_766_000_000.0


def answer(
    status: int = 200,
    body: bytes = b"",
    kind: str = "application/json",
    *,
    is_whole: bool = True,
    **headers: str,
) -> Answer:
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer("POST http://t/", status, {"Content-Type": kind, **named}, body, is_whole)


@pytest.mark.parametrize(
    ("found", "result"),
    [
        (answer(200, b'{"a": 1}'), {"a": 1}),
        (answer(299, b"[1]", "application/problem+json; charset=utf-8"), [1]),
        (answer(202, b"1", "Application/JSON"), 1),
        (answer(204), None),
        (answer(200, b"{"), None),
        (answer(200, b"[" * 100_000), None),
        (answer(200, b"1", "text/plain"), None),
        (answer(200, b"1", ""), None),
        (answer(200, b"1", content_encoding="gzip"), None),
        (answer(200, b"1", is_whole=False), None),
    ],
)
def test_any_2xx_settles_and_json_in_it_is_the_result(found: Answer, result: Any) -> None:
    assert found.result() == result


@pytest.mark.parametrize("status", [301, 302, 307, 304, 400, 404, 422, 429, 500, 503])
def test_anything_else_is_a_failure_that_names_target_status_and_words(status: int) -> None:
    with pytest.raises(StatusError) as raised:
        answer(status, "Überlast".encode() + b"x" * 1000).result()
    said = str(raised.value)
    assert said.startswith(f"POST http://t/ answered {status}")
    assert "Überlast" in said
    assert len(said.partition("Ü")[2]) == 200 - 2
    assert ("redirects are not followed" in said) == (status < 400)


def test_410_is_for_good() -> None:
    with pytest.raises(TargetGoneError, match="answered 410: moved away"):
        answer(410, b"moved away").result()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("17", 17), (" 2 ", 2), ("999999999999", 3600)])
def test_a_pause_that_is_asked_for_is_kept_and_no_longer_than_an_hour(
    status: int, value: str, seconds: float
) -> None:
    found = answer(status, retry_after=value)
    assert found.pause_seconds == seconds
    with pytest.raises(RetryLaterError) as raised:
        found.result()
    assert raised.value.seconds == seconds


def test_other_statuses_ask_for_no_pause() -> None:
    for status in (200, 404, 500, 502):
        assert answer(status, retry_after="5").pause_seconds is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (email.utils.formatdate(NOW + 90, usegmt=True), 90),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("Fri, 99 Foo 2025 00:00:00 GMT", None),
    ],
)
def test_a_pause_may_be_a_date_and_what_is_neither_is_none(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "tells"), [(200, False), (404, False), (429, False), (500, True), (503, True)]
)
def test_only_5xx_tells_of_the_target(status: int, tells: bool) -> None:
    assert answer(status).tells_of_the_target is tells


def test_a_batchs_answer_lets_single_events_fail() -> None:
    found = answer(200, b'[null, {"error": "no such order"}, {"result": 5}, {}, 7]').results(5)
    assert found is not None
    assert isinstance(found[1], RemoteError)
    assert str(found[1]) == "no such order"
    assert [found[0], *found[2:]] == [None, 5, None, None]


@pytest.mark.parametrize("body", [b"", b"{}", b"[null]", b"[null,null,null]", b"[", b"7"])
def test_any_other_answer_means_that_all_of_a_batch_is_done(body: bytes) -> None:
    assert answer(200, body).results(2) is None


def test_a_batchs_answer_too_long_to_be_read_is_no_success() -> None:
    with pytest.raises(StatusError, match="which events failed is unknown"):
        answer(200, b"[", is_whole=False).results(2)
    assert answer(200, b"ok", "text/plain", is_whole=False).results(2) is None


def test_a_batch_fails_as_a_whole_by_its_status() -> None:
    for status, error in ((500, StatusError), (410, TargetGoneError)):
        with pytest.raises(error):
            answer(status, b"[null]").results(1)
