"""The benchmark refuses runs that mean nothing, and its percentiles and rates are what they say."""

from __future__ import annotations

import json
import os
import time
from array import array
from pathlib import Path
from random import Random

import pytest

from bench.figures import InvalidRunError, percentiles, warm_part
from bench.floors import FLOORS, missed
from bench.latency import Latency
from bench.peer_runs import PEERS, versions
from bench.processes import running
from bench.rounds import Round
from bench.settling import check_settled
from bench.throughput import parse, summary
from bench.work import BATCH, FILTERED, WORKS
from bench.workload import DATA_BYTES, keyed_event, published_at, random_event, typed_event
from headgate.event import encode_data
from headgate.streams import BranchMeasurement

MS = 1_000_000


def arrivals(path, *noted: tuple[int, int]):
    """A file as the handler writes it: pairs of due time and nanoseconds on the way."""
    path.write_bytes(array("q", [number for pair in noted for number in pair]).tobytes())
    return path


def round_of(**changed) -> Round:
    figures = {
        "raw": 200.0,
        "raw_fanout5": 200.0,
        "raw_saturated": 300.0,
        "worker": {work.name: 100.0 for work in WORKS},
        "memory_mb": 50.0,
        "latency": {rate: Latency(0.5, 1.0, 2.0, 0.1, 0.2) for rate in (1000, 5000)},
        "peers": {peer.name: 10.0 if peer.is_batch else 2.0 for peer in PEERS},
    }
    return Round(**figures | changed)


def test_an_event_of_the_benchmark_is_200_bytes_of_json():
    keyed, typed = keyed_event(Random(1), 9), typed_event("video")
    for event in (
        random_event(Random(1)),
        published_at(1_790_000_000_000_000_000),
        published_at(7),
        keyed,
        typed,
    ):
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


def test_what_is_left_lost_or_doubled_makes_the_run_invalid():
    check_settled("a", BranchMeasurement(done=90, filtered=10), 100, 10)
    for wrong in (
        BranchMeasurement(done=99),
        BranchMeasurement(done=101),
        BranchMeasurement(done=90, filtered=10),
        BranchMeasurement(done=100, pending=1),
        BranchMeasurement(done=100, retried=1),
        BranchMeasurement(done=100, dead=1),
    ):
        with pytest.raises(InvalidRunError):
            check_settled("a", wrong, 100)


def test_every_tenth_event_is_filtered_out():
    for events in (1, 9, 10, 11, 500):
        images = [FILTERED.event(Random(1), number).data["kind"] for number in range(events)].count("image")
        assert FILTERED.filtered(events) == images


def test_ratios_are_taken_within_a_round_and_then_the_median():
    rounds = [
        round_of(raw=raw, worker=dict.fromkeys((work.name for work in WORKS), worker))
        for raw, worker in ((100, 50), (200, 20), (10, 9))
    ]
    found = summary(rounds, parse([]))
    assert found["ratio"] == 0.5
    assert found["eventsPerSecond"] == 20
    assert json.loads(json.dumps(found)) == found


def test_the_best_peer_has_the_best_median_of_its_kind_and_like_is_compared_with_like():
    names = [peer.name for peer in PEERS if not peer.is_batch]
    ours = {work.name: 300.0 if work is BATCH else 100.0 for work in WORKS}
    slow = {peer.name: 1.0 for peer in PEERS}
    rounds = [
        round_of(worker=ours, peers=slow | {names[0]: 90.0, names[1]: 4.0}),
        round_of(worker=ours, peers=slow | {names[0]: 1.0, names[1]: 5.0}),
        round_of(worker=ours, peers=slow | {names[0]: 2.0, names[1]: 5.0}),
    ]
    found = summary(rounds, parse([]))
    assert found["bestPeer"] == names[1]
    assert found["bestPeerRatio"] == 20
    assert found["bestBatchPeerRatio"] == 300
    assert "peers" not in summary(rounds, parse(["--no-peers"]))


def test_a_missed_floor_is_named_with_what_is_asked():
    good = {floor.figure: floor.least if floor.below is None else floor.below - 0.01 for floor in FLOORS}
    assert missed(good) == []
    for floor in FLOORS:
        bad = floor.least - 0.01 if floor.below is None else floor.below
        [said] = missed(good | {floor.figure: bad})
        assert said.startswith(f"{floor.figure} is {bad:g}")


def test_every_floor_is_a_figure_of_the_last_line():
    assert {floor.figure for floor in FLOORS} <= set(summary([round_of()], parse([])))
    assert missed(summary([round_of()], parse(["--no-peers"]))) == []


def test_every_peer_has_a_locked_version():
    assert set(versions()) == {peer.package for peer in PEERS}


def test_a_process_ends_with_all_it_started(tmp_path):
    script = "sleep 60 & echo $! > child; wait"
    with running(["bash", "-c", script], {"PATH": os.environ["PATH"]}, tmp_path, tmp_path / "log") as process:
        deadline = time.monotonic() + 10
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child = int((tmp_path / "child").read_text())
    assert process.returncode is not None
    stat = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
