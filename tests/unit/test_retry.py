"""What follows a failed attempt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.contract import RetryContract, RetryRule
from headgate.event import Event
from headgate.retry_rules import RetryRuleError, check_match, check_rules
from headgate.streams.outcome import Delivery, Kind, Outcome
from headgate.worker.retry import Retries

retries = st.builds(
    RetryContract,
    max_attempts=st.integers(1, 100),
    initial_seconds=st.integers(1, 3600),
    factor=st.integers(1, 10),
    max_seconds=st.integers(1, 86400),
)


def failure(attempt: int, kind: Kind = Kind.RETRY) -> Outcome:
    event = Event(id="i", body=b"1", attempt=attempt)
    return Outcome(Delivery(event, 2, b"1-0", "w.x", 0.0), kind, b"\xff failed")


@given(retries, st.integers(1, 1000))
def test_an_attempt_is_followed_by_another_until_there_are_none_left(
    retry: RetryContract, attempt: int
) -> None:
    outcome = failure(attempt)
    Retries(retry).complete(outcome)
    assert outcome.kind is (Kind.RETRY if attempt < retry.max_attempts else Kind.DEAD)


@given(retries, st.integers(1, 99))
def test_the_delay_is_the_contracts_give_or_take_a_tenth(retry: RetryContract, attempt: int) -> None:
    outcome = failure(attempt)
    Retries(retry).complete(outcome)
    if outcome.kind is Kind.RETRY:
        planned_ms = retry.delay_seconds(attempt) * 1000
        assert 0.9 * planned_ms - 1 <= outcome.delay_ms <= 1.1 * planned_ms


def test_failures_that_came_together_do_not_come_back_together() -> None:
    outcomes = [failure(1) for _ in range(100)]
    for outcome in outcomes:
        Retries(RetryContract(initial_seconds=10)).complete(outcome)
    assert len({outcome.delay_ms for outcome in outcomes}) > 10


@given(retries, st.integers(1, 1000))
def test_what_is_dead_stays_dead(retry: RetryContract, attempt: int) -> None:
    outcome = failure(attempt, Kind.DEAD)
    Retries(retry).complete(outcome)
    assert (outcome.kind, outcome.delay_ms) == (Kind.DEAD, 0)


def kind_after(error: str, *rules: RetryRule) -> Kind:
    outcome = failure(1)
    outcome.detail = error.encode()
    Retries(RetryContract(rules=rules)).complete(outcome)
    return outcome.kind


NEVER = RetryRule(match="^ValueError")
CASE = RetryRule(match="(?i)unknown codec")
BUSY = RetryRule(match="busy", retryable=True)


@pytest.mark.parametrize(
    ("error", "rules", "kind"),
    [
        ("ValueError: bad", (NEVER,), Kind.DEAD),
        ("KeyError: ValueError", (NEVER,), Kind.RETRY),
        ("OSError: it has an UNKNOWN CODEC", (NEVER, CASE), Kind.DEAD),
        ("ValueError: busy", (NEVER, BUSY), Kind.DEAD),
        ("ValueError: busy", (BUSY, NEVER), Kind.RETRY),
        ("OSError: other", (BUSY, NEVER), Kind.RETRY),
        ("OSError: other", (BUSY, RetryRule(match="")), Kind.DEAD),
        ("OSError: \u00e9t\u00e9", (RetryRule(match="\u00e9t\u00e9$"),), Kind.DEAD),
    ],
)
def test_the_first_rule_that_matches_decides(error: str, rules: tuple[RetryRule, ...], kind: Kind) -> None:
    assert kind_after(error, *rules) is kind


def test_a_rule_gives_no_attempts_beyond_the_last_and_brings_nothing_back_from_the_dead() -> None:
    last, dead = failure(5), failure(1, Kind.DEAD)
    for outcome in (last, dead):
        Retries(RetryContract(max_attempts=5, rules=(RetryRule(match="", retryable=True),))).complete(outcome)
        assert outcome.kind is Kind.DEAD


@given(retries, st.integers(1, 99), st.integers(0, 10**8))
def test_the_delay_is_never_shorter_than_the_handler_asked_for(
    retry: RetryContract, attempt: int, least_ms: int
) -> None:
    outcome = failure(attempt)
    outcome.delay_ms = least_ms
    Retries(retry).complete(outcome)
    if outcome.kind is Kind.RETRY:
        assert outcome.delay_ms >= least_ms
        assert outcome.delay_ms <= max(least_ms, 1.1 * retry.delay_seconds(attempt) * 1000)


@pytest.mark.parametrize("match", ["(a+)+b$", "(a|aa)+b$", "(.*)*(.*)*(.*)*b$", "(a*)*(a*)*(a*)*(a*)*c"])
def test_no_pattern_and_no_error_stall_a_worker(match: str) -> None:
    began = time.perf_counter()
    assert kind_after("a" * 1_000_000 + "!", RetryRule(match=match)) is Kind.RETRY
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ("a(b", "missing ), unterminated subpattern at character 2"),
        ("*", "nothing to repeat at character 1"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "back-reference"),
        ("(a{1000}){1000}", "too large"),
    ],
)
def test_a_rule_that_is_no_regular_expression_says_where_and_why(match: str, told: str) -> None:
    with pytest.raises(RetryRuleError) as error:
        check_rules([NEVER, RetryRule(match=match)])
    assert str(error.value).startswith("rules[1].match: ")
    assert told in str(error.value)
    with pytest.raises(RetryRuleError, match=r"^'"):
        check_match(match)
