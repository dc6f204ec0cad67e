"""The benchmark refuses runs that mean nothing, and its percentiles and rates are what they say."""

from __future__ import annotations

import json
from array import array
from random import Random

import pytest

from bench.rounds import InvalidRunError, Round, Settings, percentiles, warm_part
from bench.throughput import summary
from bench.workload import DATA_BYTES, published_at, random_event
from headgate.event import encode_data

MS = 1_000_000


def arrivals(path, *noted: tuple[int, int]):
    """A file as the handler writes it: pairs of due time and nanoseconds on the way."""
    path.write_bytes(array("q", [number for pair in noted for number in pair]).tobytes())
    return path


def round_of(**changed: float) -> Round:
    figures = dict.fromkeys(Round.__dataclass_fields__, 1.0) | changed
    return Round(**figures)


def test_an_event_of_the_benchmark_is_200_bytes_of_json():
    for event in (random_event(Random(1)), published_at(1_790_000_000_000_000_000), published_at(7)):
        assert len(encode_data(event.data)) == DATA_BYTES


def test_percentiles_leave_out_the_first_second(tmp_path):
    slow_start = [(number * 10 * MS, 900 * MS) for number in range(100)]
    then = [(1_000 * MS + number * 10 * MS, (number % 100 + 1) * MS) for number in range(200)]
    p50, p99 = percentiles(arrivals(tmp_path / "a", *slow_start, *then), 300)
    assert p50 == pytest.approx(50.5, abs=1)
    assert p99 == pytest.approx(99, abs=1.1)


def test_a_lost_or_doubled_event_makes_the_run_invalid(tmp_path):
    three = [(number, 1) for number in range(3)]
    with pytest.raises(InvalidRunError, match="4 published, 3 handled"):
        percentiles(arrivals(tmp_path / "lost", *three), 4)
    with pytest.raises(InvalidRunError, match="3 different"):
        percentiles(arrivals(tmp_path / "doubled", *three, three[0]), 4)


def test_the_rate_is_taken_after_the_first_twentieth_and_before_the_end_was_seen():
    seen = [(0, 0), (1000, 10), (2000, 50), (3000, 550), (4000, 1000)]
    assert warm_part(seen) == (500, 1.0)
    assert warm_part([(0, 0), (2000, 50), (4000, 1000)]) == (950, 2.0)


def test_too_few_events_to_time_make_the_run_invalid():
    with pytest.raises(InvalidRunError, match="--events"):
        warm_part([(0, 0), (1000, 100)])


def test_ratios_are_taken_within_a_round_and_then_the_median():
    settings = Settings("redis7", 3, 1000, 100, 1000, 10, 1)
    rounds = [round_of(raw=raw, worker=worker) for raw, worker in ((100, 50), (200, 20), (10, 9))]
    found = summary(rounds, settings)
    assert found["ratio"] == 0.5
    assert found["eventsPerSecond"] == 20
    assert json.loads(json.dumps(found)) == found
