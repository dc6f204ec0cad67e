"""The laws of the gates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Lane
from headgate_operator.backpressure import (
    MIN_HOLD_SECONDS,
    LaneLoad,
    Level,
    LevelState,
    decide,
    delayed_lanes,
    rejected_lanes,
    resumed,
    retry_after_seconds,
)

DELAY = Level("Delay", lag=100, release_lag=50, delay=frozenset({Lane.LOW}))
THROTTLE = Level("Throttle", lag=500, release_lag=200, delay=frozenset({Lane.LOW, Lane.NORMAL}))
AGED = Level("Delay", lag=10**6, release_lag=50, delay=frozenset({Lane.LOW}), age_seconds=60)
LEVELS = (DELAY, THROTTLE)
REFUSE = Level("Refuse", lag=1000, release_lag=400, reject=frozenset({Lane.LOW}), age_seconds=60)
SHED = Level(
    "Shed",
    lag=2000,
    release_lag=900,
    delay=frozenset({Lane.LOW, Lane.NORMAL}),
    reject=frozenset({Lane.LOW, Lane.NORMAL}),
)
MIXED = (DELAY, REFUSE, SHED)


def lanes(
    high: int | None = 0, normal: int | None = 0, low: int | None = 0, age: float = 0.0
) -> dict[Lane, LaneLoad]:
    return {
        Lane.HIGH: LaneLoad(high, age),
        Lane.NORMAL: LaneLoad(normal, age),
        Lane.LOW: LaneLoad(low, age),
    }


loads = st.builds(
    lanes,
    st.none() | st.integers(0, 1000),
    st.none() | st.integers(0, 1000),
    st.none() | st.integers(0, 1000),
    st.floats(0, 200),
)


@given(st.lists(loads, max_size=60))
def test_a_level_moves_by_one_and_is_held_a_while(seen: list[dict[Lane, LaneLoad]]):
    state = LevelState()
    for now, load in enumerate(seen):
        after = decide(state, LEVELS, load, now)
        assert abs(after.index - state.index) <= 1
        assert after.index >= state.index or now - state.since >= MIN_HOLD_SECONDS
        state = after


@given(st.lists(loads, max_size=60))
def test_delays_and_rejections_each_move_by_one_of_their_levels_and_are_held_a_while(
    seen: list[dict[Lane, LaneLoad]],
):
    state = LevelState()
    delaying, rejecting = [0, 1, 3], [0, 2, 3]
    for now, load in enumerate(seen):
        after = decide(state, MIXED, load, now)
        assert abs(delaying.index(after.index) - delaying.index(state.index)) <= 1
        assert abs(rejecting.index(after.rejecting) - rejecting.index(state.rejecting)) <= 1
        assert after.rejecting >= state.rejecting or now - state.rejecting_since >= MIN_HOLD_SECONDS
        state = after


@given(st.integers(0, 2), loads)
def test_an_unknown_backlog_of_the_urgent_holds_the_level(index: int, load: dict[Lane, LaneLoad]):
    unknown = load | {Lane.HIGH: LaneLoad(None)}
    assert decide(LevelState(index, 0), LEVELS, unknown, 100).index == index


def test_lag_crosses_and_release_lag_releases():
    state = decide(LevelState(), LEVELS, lanes(high=60, low=39), 0)
    assert state.index == 0
    state = decide(state, LEVELS, lanes(high=60, low=40), 1)
    assert state.index == 1
    assert delayed_lanes(state, LEVELS) == {Lane.LOW}
    assert decide(state, LEVELS, lanes(high=50, low=40), 100).index == 1
    assert decide(state, LEVELS, lanes(high=49, low=40), 100).index == 0


def test_age_crosses_and_half_of_it_releases():
    state = decide(LevelState(), (AGED,), lanes(high=1, age=59.9), 0)
    assert state.index == 0
    state = decide(state, (AGED,), lanes(high=1, age=60), 1)
    assert state.index == 1
    assert decide(state, (AGED,), lanes(high=1, age=30), 100).index == 1
    assert decide(state, (AGED,), lanes(high=1, age=29), 100).index == 0


def test_what_the_gate_holds_back_does_not_keep_it_shut():
    assert decide(LevelState(1, 0), LEVELS, lanes(high=10, low=10**6), 100).index == 0


def test_low_events_alone_are_not_held_back_for_nobody():
    assert decide(LevelState(), LEVELS, lanes(low=10**6), 0).index == 0


def test_a_flood_of_low_does_not_delay_normal():
    state = LevelState()
    for now in range(100):
        state = decide(state, LEVELS, lanes(high=10, normal=60, low=10**6), now)
    assert state.index == 1


def test_levels_are_climbed_and_descended_in_order():
    state, seen = LevelState(), []
    for now in range(30):
        load = lanes(high=300, normal=300, low=300) if now < 10 else lanes(low=300)
        state = decide(state, LEVELS, load, now)
        seen.append(state.index)
    assert seen[:10] == [1, *[2] * 9]
    assert seen[10:20] == [1] * 5 + [0] * 5


def test_a_level_whose_gate_stands_is_gone_on_with_until_it_is_released():
    state = decide(resumed({Lane.LOW}, LEVELS, 7), LEVELS, lanes(high=60), 7)
    assert state == LevelState(1, 7)
    assert decide(LevelState(), LEVELS, lanes(high=60), 7).index == 0, "it would not be crossed now"
    assert decide(state, LEVELS, lanes(high=60), 100).index == 1
    assert decide(state, LEVELS, lanes(high=49), 100).index == 0


@pytest.mark.parametrize(
    ("held", "levels", "index"),
    [
        ({Lane.LOW, Lane.NORMAL}, LEVELS, 2),
        ({Lane.LOW}, (DELAY, AGED), 1),
        ({Lane.LOW}, (REFUSE, SHED), 0),
        ({Lane.LOW}, (), 0),
        (set(), (REFUSE, DELAY), 0),
    ],
    ids=["the second", "two alike", "none alike", "no level", "an open gate"],
)
def test_the_gate_that_stands_says_which_level_it_is_of(
    held: set[Lane], levels: tuple[Level, ...], index: int
):
    assert resumed(held, levels, 0).index == index


def test_a_spec_without_levels_opens_at_once():
    state = decide(LevelState(2, 0), (), lanes(high=10**6), 1)
    assert state.index == 0
    assert delayed_lanes(LevelState(2, 0), ()) == frozenset()


def test_whatever_waits_counts_for_a_rejection_held_back_or_not():
    state = decide(LevelState(), (REFUSE,), lanes(low=999), 0)
    assert state.rejecting == 0
    state = decide(state, (REFUSE,), lanes(low=1000), 1)
    assert rejected_lanes(state, (REFUSE,)) == {Lane.LOW}
    assert delayed_lanes(state, (REFUSE,)) == frozenset()
    assert decide(state, (REFUSE,), lanes(low=400), 100).rejecting == 1
    assert decide(state, (REFUSE,), lanes(low=399), 100).rejecting == 0
    assert decide(state, (REFUSE,), lanes(low=399), 1 + MIN_HOLD_SECONDS - 0.1).rejecting == 1


def test_the_age_of_what_a_level_holds_back_or_rejects_rejects_nothing():
    old_low = lanes(low=10) | {Lane.LOW: LaneLoad(10, 1000)}
    assert decide(LevelState(), (REFUSE,), old_low, 0).rejecting == 0
    old_normal = lanes(low=10) | {Lane.NORMAL: LaneLoad(1, 60)}
    assert decide(LevelState(), (REFUSE,), old_normal, 0).rejecting == 1
    still_old = lanes() | {Lane.NORMAL: LaneLoad(1, 30)}
    assert decide(LevelState(rejecting=1, rejecting_since=0), (REFUSE,), still_old, 100).rejecting == 1


def test_a_level_that_only_rejects_opens_no_gate_below_it():
    state = LevelState(index=1, since=0)
    climbed = decide(state, MIXED, lanes(high=300, low=1700), 1)
    assert climbed.rejecting == 2
    assert delayed_lanes(climbed, MIXED) == {Lane.LOW}
    assert climbed.highest == 2


def test_an_unknown_backlog_holds_a_rejection():
    unknown = lanes(low=None)
    assert decide(LevelState(rejecting=2, rejecting_since=0), MIXED, unknown, 100).rejecting == 2
    assert decide(LevelState(), MIXED, unknown, 100).rejecting == 0


def test_a_spec_whose_level_rejects_no_more_takes_everything_again():
    state = decide(LevelState(rejecting=1, rejecting_since=0), (DELAY,), lanes(high=10**6), 100)
    assert rejected_lanes(state, (DELAY,)) == frozenset()
    assert state.rejecting == 0
    assert decide(LevelState(rejecting=3), (), lanes(high=10**6), 1).highest == 0


@pytest.mark.parametrize(
    ("backlog", "settled", "now", "seconds"),
    [(400, 10, 0, 5), (400, 10, 100, 1), (900, 50, 100, 10), (10**6, 50, 100, 60), (900, 0, 100, 60)],
)
def test_a_publisher_is_told_to_come_back_when_the_rejection_may_be_over(
    backlog: int, settled: float, now: float, seconds: int
):
    state = LevelState(rejecting=1, rejecting_since=0)
    assert retry_after_seconds(state, (REFUSE,), lanes(low=backlog), settled, now) == seconds


@given(flood=st.integers(1500, 5000), capacity=st.integers(20, 60), seconds=st.integers(10, 100))
def test_a_rejection_bounds_the_backlog_and_comes_and_goes_once(flood: int, capacity: int, seconds: int):
    """A simulated branch that publishers flood in Low, many times its capacity."""
    state, moves, waiting, most = LevelState(), 0, 0, 0
    for now in range(seconds + 400):
        if now < seconds and not rejected_lanes(state, (REFUSE,)):
            waiting += flood
        waiting -= min(capacity, waiting)
        most = max(most, waiting)
        after = decide(state, (REFUSE,), lanes(low=waiting), now)
        moves += after.rejecting != state.rejecting
        state = after
    assert most <= REFUSE.lag + flood
    assert waiting == 0
    assert state.rejecting == 0
    assert moves <= 2 * (1 + seconds * capacity // (REFUSE.lag - REFUSE.release_lag))


@given(
    high=st.integers(0, 400), low=st.integers(0, 2000), capacity=st.integers(20, 60), flow=st.integers(0, 50)
)
def test_a_burst_drains_with_few_gate_movements(high: int, low: int, capacity: int, flow: int):
    """A simulated branch: a burst of High and Low, then High at less than capacity, lanes read in order."""
    # What stands in the queue for ever must be less than what counts as fine, or nothing is ever released.
    flow = min(flow, capacity - 10, LEVELS[0].release_lag - 1)
    state, moves, waiting_high, waiting_low = LevelState(), 0, high, low
    for now in range(600):
        room = capacity
        taken = min(room, waiting_high)
        waiting_high -= taken
        room -= taken
        if Lane.LOW not in delayed_lanes(state, LEVELS):
            waiting_low -= min(room, waiting_low)
        waiting_high += flow
        after = decide(state, LEVELS, lanes(high=waiting_high, low=waiting_low), now)
        moves += after.index != state.index
        state = after
    assert waiting_low == 0
    assert state.index == 0
    assert moves <= 2 * 600 / MIN_HOLD_SECONDS
