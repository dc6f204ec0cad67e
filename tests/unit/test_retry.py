"""What follows a failed attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.contract import RetryContract
from headgate.event import Event
from headgate.streams.outcome import Delivery, Kind, Outcome
from headgate.worker.retry import next_outcome

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
    next_outcome(outcome, retry)
    assert outcome.kind is (Kind.RETRY if attempt < retry.max_attempts else Kind.DEAD)


@given(retries, st.integers(1, 99))
def test_the_delay_is_the_contracts_give_or_take_a_tenth(retry: RetryContract, attempt: int) -> None:
    outcome = failure(attempt)
    next_outcome(outcome, retry)
    if outcome.kind is Kind.RETRY:
        planned_ms = retry.delay_seconds(attempt) * 1000
        assert 0.9 * planned_ms - 1 <= outcome.delay_ms <= 1.1 * planned_ms


def test_failures_that_came_together_do_not_come_back_together() -> None:
    outcomes = [failure(1) for _ in range(100)]
    for outcome in outcomes:
        next_outcome(outcome, RetryContract(initial_seconds=10))
    assert len({outcome.delay_ms for outcome in outcomes}) > 10


@given(retries, st.integers(1, 1000))
def test_what_is_dead_stays_dead(retry: RetryContract, attempt: int) -> None:
    outcome = failure(attempt, Kind.DEAD)
    next_outcome(outcome, retry)
    assert (outcome.kind, outcome.delay_ms) == (Kind.DEAD, 0)
