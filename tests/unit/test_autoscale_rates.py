"""The laws of what counters say: rates that noise, bursts, resets and outages do not mislead."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate_operator.autoscale import ScaleLimits, ScalerInputs, ScalerState, decide
from headgate_operator.autoscale.age import speed_for_age
from headgate_operator.autoscale.rates import Arrivals, WorkerRate
from headgate_operator.autoscale.window import Growth, Window

IDLE = ScalerInputs(now=0, published=0, settled=0, busy_seconds=0, backlog=0, current=0, ready=0)


def arrivals(counts: list[float], start: float = 0.0, known: Arrivals | None = None) -> Arrivals:
    """After a reading a second; `counts` are the events of each."""
    found, published = known or Arrivals(), known.marks[-1][1] if known else 0
    for second, count in enumerate(counts):
        published += round(count)
        found = found.add(start + second, published)
    return found


@given(rate=st.floats(0.2, 500), seed=st.integers(0, 1000))
def test_a_steady_rate_is_found_through_its_noise(rate: float, seed: int):
    random = Random(seed)
    counts = [
        sum(random.expovariate(1) < 1 for _ in range(3)) * 0 + _poisson(random, rate) for _ in range(120)
    ]
    found = arrivals(counts).per_second
    assert abs(found - rate) <= max(0.25, 0.35 * rate, 3 * (rate / 10) ** 0.5)


def _poisson(random: Random, mean: float) -> int:
    """Events of one second at a rate: as many exponential pauses as fit into it."""
    count, left = 0, random.expovariate(mean)
    while left < 1:
        count, left = count + 1, left + random.expovariate(mean)
    return count


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_single_burst_is_no_rate(seconds: int):
    found = arrivals([0] * 60 + [2000] * seconds)
    for second in range(60):
        assert found.per_second <= 1
        found = found.add(61.0 + second, found.marks[-1][1])


def test_a_burst_that_wakes_a_branch_at_rest_is_no_rate():
    found = Arrivals()
    for look in range(12):
        found = found.add(10.0 * look, 500)
    found = found.add(117.3, 2500)
    assert found.per_second <= 1
    for second in range(60):
        found = found.add(118.3 + second, 2500)
        assert found.per_second <= 1


def test_a_burst_in_the_first_seconds_of_all_is_no_rate():
    assert Arrivals().add(0.0, 0).add(0.2, 2000).per_second == 0
    assert Arrivals().add(0.0, 0).add(0.2, 2000).add(1.2, 2000).per_second == 0


def test_a_step_is_followed_within_ten_seconds_and_so_is_its_end():
    found = arrivals([10] * 60 + [200] * 10)
    assert found.per_second == pytest.approx(200, rel=0.05)
    assert arrivals([10] * 10, 70.0, found).per_second == pytest.approx(10, rel=0.3)


def test_nothing_for_a_minute_is_a_rate_of_nothing():
    assert arrivals([0] * 70, 60.0, arrivals([50] * 60)).per_second == 0


def test_a_counter_that_was_reset_leaves_the_rate_as_it_was():
    found = arrivals([50] * 60)
    reset = found.add(60.0, 3)
    assert reset.per_second == pytest.approx(50, rel=0.1)
    assert reset.add(61.0, 53).add(62.0, 103).per_second == pytest.approx(50, rel=0.1)


def test_looks_between_the_seconds_change_nothing():
    plain, hasty = arrivals([50] * 60), Arrivals()
    for tick in range(600):
        hasty = hasty.add(tick / 10, 50 * (tick // 10 + 1))
    assert len(hasty.marks) <= len(plain.marks) + 5
    assert hasty.per_second == pytest.approx(plain.per_second, rel=0.05)


def settled_by(rate: WorkerRate, looks: int, events: int, handler: float, **figures: int) -> WorkerRate:
    """After so many seconds in which so many events were settled."""
    before = replace(IDLE, **figures)
    for second in range(1, looks + 1):
        after = replace(
            before,
            now=second,
            settled=before.settled + events,
            busy_seconds=(before.settled + events) * handler,
        )
        rate, before = rate.add(before, after, 8), after
    return rate


def test_under_saturation_a_worker_is_as_fast_as_it_was_seen_to_be():
    """Handlers of 0.1 s and 8 slots could do 80 a second; what is seen is 30."""
    rate = settled_by(WorkerRate(), 30, 60, 0.1, backlog=9000, current=2, ready=2)
    assert rate.per_second(8) == pytest.approx(30, rel=0.05)


def test_workers_with_nothing_to_do_say_nothing_of_speed_but_handlers_do():
    rate = settled_by(WorkerRate(), 30, 2, 0.1, backlog=1, current=2, ready=2)
    assert rate.per_second(8) == pytest.approx(80)


def test_a_new_worker_that_settles_nothing_yet_does_not_look_slow():
    """Handlers take 20 s: 2 workers of 2 slots, then 12; whoever came last settles nothing for 20 s."""
    rate, before = WorkerRate(), replace(IDLE, backlog=900, current=2, ready=2)
    for second in range(1, 100):
        ready = 2 if second < 60 else 12
        settled = second * 2 // 10 + max(0, second - 80)
        after = replace(
            before, now=second, settled=settled, busy_seconds=20 * settled, ready=ready, current=ready
        )
        rate, before = rate.add(before, after, 2), after
        if settled:
            assert rate.per_second(2) == pytest.approx(0.1, rel=0.2)


def test_an_operator_that_restarts_knows_a_workers_rate_from_the_counters():
    look = replace(
        IDLE, settled=10_000, published=11_000, busy_seconds=5000, backlog=1200, current=2, ready=2
    )
    decision = decide(ScalerState(), look, ScaleLimits(max=1000, concurrency=8))
    assert decision.state.rate.per_second(8) == pytest.approx(16)
    assert decision.replicas == 3, "1200 in 30 s at 16 a second, not a slot for each of them"


def test_events_that_a_filter_dropped_say_nothing_of_how_fast_a_handler_is():
    """24 jobs are dropped, then their 400 parts wait: each takes 0.1 s."""
    look = replace(IDLE, now=1, published=24, settled=24, current=1, ready=1)
    known = WorkerRate().add(IDLE, look, 1)
    assert known.per_second(1) is None
    begun = replace(look, now=2, published=424, settled=26, busy_seconds=0.2, backlog=398)
    assert known.add(look, begun, 1).per_second(1) == pytest.approx(10)


def test_where_a_filter_dropped_all_so_far_slots_are_for_those_that_may_pass():
    def first(dropped: int, waiting: int) -> int:
        before = replace(IDLE, published=dropped, settled=0, backlog=dropped, current=1, ready=1)
        state = decide(ScalerState(), before, ScaleLimits(max=1000, concurrency=1)).state
        look = replace(before, now=1, settled=dropped, published=dropped + waiting, backlog=waiting)
        return decide(state, look, ScaleLimits(max=1000, concurrency=1)).replicas

    assert first(0, 400) == 400
    assert first(10, 100) == 10, "100 / 11, rounded up"
    assert first(1000, 1) == 1


def test_a_reset_of_settled_is_left_out():
    rate = settled_by(WorkerRate(), 30, 60, 0.1, backlog=9000, current=2, ready=2)
    before = replace(IDLE, now=100, settled=9000, busy_seconds=900, backlog=9000, current=2, ready=2)
    assert rate.add(before, replace(before, now=101, settled=5, busy_seconds=0.5), 8) == rate


@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 50)), min_size=1, max_size=60), st.floats(0.5, 40)
)
def test_a_windows_highest_is_that_of_its_seconds(steps: list[tuple[float, int]], seconds: float):
    window, seen, now = Window(), [], 0.0
    for pause, value in steps:
        now += pause
        seen.append((now, value))
        window = window.add(now, value, seconds)
        assert window.highest == max(number for at, number in seen if at > now - seconds)


@given(st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 50)), min_size=2, max_size=60), st.floats(1, 40))
def test_growth_is_that_of_its_seconds_and_a_sixteenth(steps: list[tuple[float, int]], seconds: float):
    growth, count, now, seen = Growth(), 0, 0.0, []
    for pause, more in steps:
        now, count = now + pause, count + more
        seen.append((now, count))
        growth = growth.add(now, count, seconds)
        since = now - seconds * (1 + 1 / 16)
        whole = count - next(known for at, known in reversed(seen) if at <= since or at == seen[0][0])
        assert growth.per_second(seconds) * seconds <= whole + 1e-6
    assert len(growth.marks) <= 16 + 4


def test_no_event_of_a_burst_gets_older_than_allowed_at_the_speed_asked_for():
    """1,000 events in a second, ten seconds ago, none settled: 19 s are left, of which new workers start for 5."""
    found = arrivals([0, 1000, *[0] * 10])
    speed = speed_for_age(found, now=11, workable=1000, able=0, start=5, handler=0, max_age=30)
    assert speed == pytest.approx(1000 / (1 + 30 - 11 - 1 - 5))
    slow = speed_for_age(found, now=11, workable=1000, able=100, start=5, handler=0, max_age=30)
    assert slow == pytest.approx(1000 / 19), "what is there is fast enough: nothing has to start"


def test_of_what_came_over_time_each_has_its_own_deadline():
    """10 a second for 20 s: the oldest are nearly late, the newest have time."""
    found = arrivals([10] * 20)
    speed = speed_for_age(found, now=19, workable=200, able=1000, start=0, handler=0, max_age=30)
    assert speed == pytest.approx(10 / 10) or speed == pytest.approx(200 / 29)
    assert speed >= 200 / 29


def test_what_is_late_already_is_worked_off_within_a_quarter_of_the_age_allowed():
    found = arrivals([1000, *[0] * 100])
    assert speed_for_age(found, now=100, workable=1000, able=0, start=5, handler=0, max_age=40) == 100
