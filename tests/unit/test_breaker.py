"""The circuit breaker: when a target is left alone, and when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.handlers.breaker import Breaker, State

OPEN_SECONDS = 30.0


def begun(breaker: Breaker, now: float) -> int:
    epoch = breaker.begin(now)
    assert epoch is not None
    return epoch


def opened(failures: int = 3, now: float = 0.0) -> Breaker:
    breaker = Breaker(failures, OPEN_SECONDS)
    for _ in range(failures):
        breaker.failed(begun(breaker, now), now)
    return breaker


def test_failures_in_a_row_open_it_for_the_open_time() -> None:
    breaker = opened(3, now=10)
    assert breaker.state is State.OPEN
    assert breaker.begin(10 + OPEN_SECONDS - 0.001) is None
    assert breaker.paused_until(11, 5) == 10 + OPEN_SECONDS
    assert breaker.begin(10 + OPEN_SECONDS) is not None


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(2, OPEN_SECONDS)
    for _ in range(5):
        breaker.failed(begun(breaker, 0), 0)
        breaker.succeeded(begun(breaker, 0))
    assert breaker.state is State.CLOSED
    assert breaker.paused_until(0, 5) == 0


def test_after_the_open_time_one_probe_is_let_through_and_no_more() -> None:
    breaker = opened()
    probe = begun(breaker, OPEN_SECONDS)
    assert breaker.state is State.HALF_OPEN
    assert breaker.begin(OPEN_SECONDS) is None
    assert breaker.begin(10 * OPEN_SECONDS) is None
    assert breaker.paused_until(OPEN_SECONDS, 5) == OPEN_SECONDS + 5
    breaker.succeeded(probe)
    assert breaker.state is State.CLOSED
    assert breaker.begin(OPEN_SECONDS) is not None


def test_a_probe_that_fails_opens_it_again_for_the_whole_time() -> None:
    breaker = opened()
    breaker.failed(begun(breaker, 40), 41)
    assert breaker.state is State.OPEN
    assert breaker.begin(41 + OPEN_SECONDS - 0.001) is None


def test_what_was_begun_before_it_opened_says_nothing_any_more() -> None:
    breaker = Breaker(1, OPEN_SECONDS)
    old, other = begun(breaker, 0), begun(breaker, 0)
    breaker.failed(begun(breaker, 0), 0)
    breaker.succeeded(old)
    assert breaker.state is State.OPEN
    breaker.failed(other, 20)
    probe = begun(breaker, OPEN_SECONDS)
    breaker.succeeded(old)
    assert breaker.state is State.HALF_OPEN
    breaker.failed(probe, 31)
    assert breaker.state is State.OPEN


def test_without_a_limit_it_never_opens() -> None:
    breaker = Breaker(0, OPEN_SECONDS)
    for _ in range(1000):
        breaker.failed(begun(breaker, 0), 0)
    assert breaker.state is State.CLOSED


@given(
    failures=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["begin", "succeed", "fail", "wait"]), st.integers(0, 40)), max_size=80
    ),
)
def test_whatever_happens_it_never_lets_through_what_it_should_not_nor_sticks(  # noqa: C901 - a model in one piece
    failures: int, steps: list[tuple[str, int]]
) -> None:
    breaker = Breaker(failures, OPEN_SECONDS)
    now, in_a_row, opened_at, generation = 0.0, 0, 0.0, 0
    state = State.CLOSED
    running: list[tuple[int, int]] = []
    for what, number in steps:
        if what == "wait":
            now += number
        elif what == "begin":
            is_over = state is State.OPEN and now >= opened_at + OPEN_SECONDS
            epoch = breaker.begin(now)
            assert (epoch is not None) == (state is State.CLOSED or is_over)
            if is_over:
                state, generation = State.HALF_OPEN, generation + 1
            if epoch is not None:
                running.append((epoch, generation))
        elif running:
            epoch, began_in = running.pop(number % len(running))
            if began_in == generation:
                in_a_row = 0 if what == "succeed" else in_a_row + 1
                if what == "succeed" and state is State.HALF_OPEN:
                    state, generation = State.CLOSED, generation + 1
                elif in_a_row == failures or (in_a_row and state is State.HALF_OPEN):
                    state, generation, in_a_row, opened_at = State.OPEN, generation + 1, 0, now
            if what == "succeed":
                breaker.succeeded(epoch)
            else:
                breaker.failed(epoch, now)
        assert breaker.state is state
    assert state is State.HALF_OPEN or breaker.begin(now + OPEN_SECONDS) is not None
