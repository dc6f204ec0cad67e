"""The laws of the gates."""

from __future__ import annotations

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
)

DELAY = Level("Delay", lag=100, release_lag=50, delay=frozenset({Lane.LOW}))
THROTTLE = Level("Throttle", lag=500, release_lag=200, delay=frozenset({Lane.LOW, Lane.NORMAL}))
AGED = Level("Delay", lag=10**6, release_lag=50, delay=frozenset({Lane.LOW}), age_seconds=60)
LEVELS = (DELAY, THROTTLE)


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


def test_a_spec_without_levels_opens_at_once():
    state = decide(LevelState(2, 0), (), lanes(high=10**6), 1)
    assert state.index == 0
    assert delayed_lanes(LevelState(2, 0), ()) == frozenset()


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
