"""The simulated branch, the model of KEDA and the oracle are what they say; and so is the benchmark's verdict."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.autoscale.comparison import PILOT, SCALERS, compare, figures
from bench.autoscale.keda import DEFAULT, KedaScaler, KedaSettings, tuned
from bench.autoscale.oracle import least_cost, least_worker_seconds
from bench.autoscale.recording import SHAPES, record
from bench.autoscale.simulation import Seen, handler_seconds, replay
from bench.autoscale.targets import missed
from bench.autoscale.traces import BRANCHES, QUICK, Trace, load, save
from bench.autoscale.workers import Workers

SMALL = replace(QUICK, max=5, objective_seconds=10, drain_within_seconds=5, scale_down_after_seconds=3)
MEASURED = replace(QUICK, max=32, scale_down_after_seconds=0)
"""As KEDA was measured: tests/bench and the design's facts have the seconds."""


def rise(settings: KedaSettings, phase: int, replicas: int) -> float:
    """Seconds from a burst that needs 32 workers until KEDA asks for so many."""
    scaler, now, asked = KedaScaler(settings, MEASURED, Random(phase)), 0.0, 0
    while asked < replicas:
        now = scaler.next_look(now, asked, 0.0)
        asked = scaler.look(seen(now, backlog=32 * 8 * 15, replicas=asked))
    return now


def seen(now: float, *, backlog: int, replicas: int) -> Seen:
    return Seen(now, backlog, 0, 0.0, backlog, now, replicas, replicas, replicas)


@pytest.mark.parametrize(
    ("keda", "replicas", "mean", "worst"),
    [
        (DEFAULT, 1, pytest.approx(16, abs=2), 30),
        (DEFAULT, 32, pytest.approx(67, abs=3), 90),
        (tuned(MEASURED), 1, pytest.approx(0.5, abs=0.1), 1),
        (tuned(MEASURED), 32, pytest.approx(8.4, abs=1), 16),
    ],
)
def test_the_model_of_keda_takes_as_long_as_keda_did(
    keda: KedaSettings, replicas: int, mean: float, worst: float
):
    took = [rise(keda, phase, replicas) for phase in range(500)]
    assert statistics.mean(took) == mean
    assert max(took) <= worst


def test_the_model_of_keda_goes_back_to_zero_as_late_as_keda_did():
    took = []
    for phase in range(200):
        scaler, now, asked = KedaScaler(DEFAULT, MEASURED, Random(phase)), 0.0, 4
        while asked:
            now = scaler.next_look(now, asked, math.inf)
            asked = scaler.look(seen(now, backlog=10 if now < 100 else 0, replicas=asked))
        took.append(now - 100)
    assert statistics.mean(took) == pytest.approx(290, abs=10)


def test_keda_moves_nothing_within_its_tolerance():
    scaler, target = KedaScaler(tuned(QUICK), QUICK, Random(1)), 8 * 15
    now = 0.0
    for _ in range(100):
        now = scaler.next_look(now, 10, math.inf)
        assert scaler.look(seen(now, backlog=round(10.9 * target), replicas=10)) == 10
    asked = []
    for _ in range(20):
        now = scaler.next_look(now, 10, math.inf)
        asked.append(scaler.look(seen(now, backlog=12 * target, replicas=10)))
    assert 12 in asked


def test_keda_keeps_the_highest_that_was_recommended_for_its_window():
    scaler, now, asked = KedaScaler(DEFAULT, QUICK, Random(1)), 0.0, 20
    high_until = None
    while asked == 20:
        now = scaler.next_look(now, asked, math.inf)
        high = now < 60
        high_until = now if high else high_until
        asked = scaler.look(seen(now, backlog=(20 if high else 2) * 8 * 15, replicas=asked))
    assert 300 <= now - 60 <= 316
    assert asked == 2


def test_a_worker_starts_cold_handles_in_order_and_is_paid_until_it_has_drained():
    workers = Workers([0.0, 0.0, 0.0, 0.5], [2.0, 2.0, 2.0, 2.0], concurrency=2, start_seconds=3)
    workers.scale(1)
    workers.advance(3.5)
    assert (workers.ready, workers.settled, workers.oldest_age(3.5)) == (1, 0, 3.5)
    workers.advance(6.5)
    assert workers.ages == [5.0, 5.0]
    workers.scale(0)
    workers.advance(20)
    assert workers.ages == [5.0, 5.0, 7.0, 6.5], "what it had begun it finished"
    assert workers.worker_seconds() == 7.0
    assert workers.busy_seconds == 8.0


def test_no_event_is_handled_before_it_is_published():
    workers = Workers([0.0, 10.0], [2.0, 2.0], concurrency=1, start_seconds=1)
    workers.scale(1)
    workers.advance(20)
    assert workers.ages == [3.0, 2.0]


def test_a_stopped_worker_takes_nothing_more_and_one_that_starts_is_stopped_first():
    workers = Workers([0.0] * 4, [2.0] * 4, concurrency=1, start_seconds=1)
    workers.scale(1)
    workers.advance(2)
    workers.scale(2)
    workers.advance(2.5)
    workers.scale(1)
    workers.advance(3)
    assert workers.ready == 1
    workers.scale(0)
    workers.advance(50)
    assert workers.settled == 1
    assert workers.worker_seconds() == 3 + 0.5


@pytest.mark.parametrize("name", SCALERS)
def test_every_event_is_settled_once_under_every_scaler(name: str):
    trace = Trace("some", tuple([0] * 10 + [30, 0, 5] * 20), SMALL)
    found = replay(trace, SCALERS[name](trace, Random(1)), 1)
    assert found.events == sum(trace.arrivals)
    assert 0 <= found.within <= found.events
    assert found.worker_seconds >= sum(handler_seconds(trace, 1)) / SMALL.concurrency


def test_a_seed_decides_everything():
    trace = load("bursts")
    assert figures([compare(trace, 3)]) == figures([compare(trace, 3)])
    assert figures([compare(trace, 3)]) != figures([compare(trace, 4)])


def by_force(come: list[int], objective: int, most: int, start: float, late: int) -> float:
    """Tries every number of workers in every second."""
    arrived = [*itertools.accumulate(come)]
    arrived += [arrived[-1]] * objective
    best = math.inf
    for counts in itertools.product(range(most + 1), repeat=len(arrived)):
        done = dropped = 0
        for second, count in enumerate(counts):
            done = min(done + count, arrived[second])
            due = arrived[second - objective] if second >= objective else 0
            dropped += max(0, due - done)
            done = max(done, due)
        ups = sum(max(0, b - a) for a, b in itertools.pairwise((0, *counts)))
        if dropped <= late:
            best = min(best, sum(counts) + start * ups)
    return best


@settings(max_examples=60, deadline=None)
@given(
    come=st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(any),
    objective=st.integers(0, 2),
    start=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_the_oracle_is_what_trying_everything_finds(come: list[int], objective: int, start: float):
    amounts = [float(amount) for amount in itertools.accumulate(come)]
    assert least_cost(amounts, objective=objective, most=3, start=start) == by_force(
        come, objective, 3, start, 0
    )


@settings(max_examples=60, deadline=None)
@given(
    come=st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(any),
    objective=st.integers(0, 2),
    late=st.integers(1, 4),
)
def test_with_some_that_may_be_late_the_oracle_is_a_lower_bound(come: list[int], objective: int, late: int):
    amounts = [float(amount) for amount in itertools.accumulate(come)]
    bound = least_cost(amounts, objective=objective, most=2, start=2.0, late=late)
    assert bound <= by_force(come, objective, 2, 2.0, late)
    strict = by_force(come, objective, 2, 2.0, 0)
    assert bound >= strict - (2.0 + 1) * late or strict == math.inf, "nor is it lower than it must be"


def test_parts_of_a_unit_ask_for_no_more_than_the_whole_units_they_make():
    parts, whole = [0.4, 0.9, 1.3, 2.9], [0.0, 0.0, 1.0, 2.0]
    assert least_cost(parts, objective=1, most=3, start=2) == least_cost(whole, objective=1, most=3, start=2)


def test_an_oracle_that_cannot_keep_the_objective_says_so():
    with pytest.raises(ValueError, match="max: 2 workers cannot"):
        least_cost([9.0], objective=2, most=2, start=1)


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=6).filter(
        lambda parts: any(count for count, _ in parts)
    ),
    name=st.sampled_from([*SCALERS]),
    seed=st.integers(0, 99),
)
def test_no_scaler_does_with_less_than_the_oracle(parts: list[tuple[int, int]], name: str, seed: int):
    trace = Trace("any", tuple(count for count, seconds in parts for _ in range(seconds)), SMALL)
    found = replay(trace, SCALERS[name](trace, Random(seed)), seed)
    least = least_worker_seconds(trace, handler_seconds(trace, seed), found.events - found.within)
    assert least <= found.worker_seconds


@pytest.mark.parametrize("name", BRANCHES)
def test_the_recorded_traces_are_what_their_seed_makes(name: str):
    assert set(SHAPES) == set(BRANCHES)
    trace = load(name)
    assert list(trace.arrivals) == record(name)
    assert len(trace.times) == sum(trace.arrivals)
    assert trace.times == sorted(trace.times)


def test_a_trace_is_read_as_it_was_written(tmp_path):
    save("step", [3, 0, 7], tmp_path)
    assert load("step", tmp_path).arrivals == (3, 0, 7)
    (tmp_path / "step.csv").write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"step\.csv: the first line is '1'"):
        load("step", tmp_path)


def good(**changed):
    keda = {"withinObjective": 0.9}
    cluster = {
        "zeroToOneWorstSeconds": 0.4,
        "zeroTo32WorstSeconds": 0.5,
        "backToZeroSecondsOverWindow": 1.0,
        "realTime": {"workerSecondsToOracle": 1.59},
    }
    each = {name: {"workerSecondsToOracle": 1.05, "scaleChanges": 30} for name in BRANCHES}
    for name, worse in changed.pop("traces", {}).items():
        each[name] |= worse
    base = {"workerSecondsToOracle": 1.2, "withinObjective": 0.99, "scaleChanges": 791, "traces": each}
    base |= {"kedaDefault": keda, "kedaTuned": keda}
    return base | {"cluster": cluster | changed.pop("cluster", {})} | changed


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, []),
        ({"workerSecondsToOracle": 1.26}, ["workerSecondsToOracle"]),
        ({"scaleChanges": 951}, ["scaleChanges"]),
        *(
            ({"traces": {name: {figure: far}}}, [f"traces.{name}.{figure}"])
            for name in BRANCHES
            for figure, far in (("workerSecondsToOracle", 1.5), ("scaleChanges", 500))
        ),
        ({"cluster": {"realTime": {"workerSecondsToOracle": 1.8}}}, ["cluster.realTime"]),
        ({"withinObjective": 0.8}, ["kedaDefault", "kedaTuned"]),
        ({"cluster": {"zeroToOneWorstSeconds": 1.0}}, ["zeroToOneWorstSeconds"]),
        ({"cluster": {"zeroTo32WorstSeconds": 1.1}}, ["zeroTo32WorstSeconds"]),
        ({"cluster": {"backToZeroSecondsOverWindow": 2.1}}, ["backToZeroSecondsOverWindow"]),
    ],
)
def test_a_target_that_is_missed_is_named(changed, named):
    said = missed(good(**changed))
    assert len(said) == len(named)
    assert all(name in text for name, text in zip(named, said, strict=True))


def test_some_traces_alone_are_held_to_their_own_bounds_and_not_to_those_of_all_six():
    slow = {"workerSecondsToOracle": 1.292, "scaleChanges": 151}
    assert missed(good(workerSecondsToOracle=1.292) | {"traces": {"slow": slow}}) == []


def test_the_pilot_is_there_within_the_least_pause_when_the_first_event_rings():
    trace = Trace("one", (0, 0, 0, 1), SMALL)
    scaler = SCALERS[PILOT](trace, Random(1))
    assert scaler.look(seen(0.0, backlog=0, replicas=0)) == 0
    assert scaler.next_look(2.0, 0, 3.5) == 3
    rung = scaler.next_look(3.0, 0, 3.5)
    assert rung == pytest.approx(3.55)
    assert scaler.look(seen(rung, backlog=1, replicas=0)) == 1
    again = scaler.next_look(rung, 1, 3.6)
    assert again == pytest.approx(3.8), "a moment later, for the rest of a burst"
    assert scaler.next_look(again, 1, 3.9) == 4
