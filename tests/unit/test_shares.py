"""The lower lanes' shares: their percent of all that is read, to the event, however large a read is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.contract import SharesContract
from headgate.streams.outcome import NO_TURN
from headgate.worker.shares import Shares

percents = st.integers(0, 50)


def read_all(shares: Shares, rooms: list[int]) -> tuple[int, int, int]:
    """Events, those of Normal and those of Low, of reads that never run empty and High would take all of."""
    events = normal = low = 0
    for room in rooms:
        turn = shares.turn(room)
        assert turn.normal + turn.low <= room
        shares.read(room)
        events, normal, low = events + room, normal + turn.normal, low + turn.low
    return events, normal, low


@settings(max_examples=50)
@given(
    normal=percents,
    low=percents,
    rooms=st.lists(st.sampled_from([1, 2, 7, 16, 250]), min_size=1, max_size=9),
)
def test_each_lower_lane_gets_its_percent_however_large_reads_are(normal: int, low: int, rooms: list[int]):
    """Off by no more than what adds up to one turn."""
    events, of_normal, of_low = read_all(Shares(SharesContract(normal=normal, low=low)), rooms * 50)
    assert of_normal == pytest.approx(events * normal / 100, abs=300)
    assert of_low == pytest.approx(events * low / 100, abs=300)


@pytest.mark.parametrize("room", [1, 2, 7, 16, 250])
def test_of_a_long_flood_the_lower_lanes_get_one_in_a_hundred_each(room: int):
    events, of_normal, of_low = read_all(Shares(SharesContract()), [room] * 5000)
    assert of_normal / events == pytest.approx(0.01, abs=0.001)
    assert of_low / events == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("room", [1, 250])
def test_a_lane_without_a_share_gets_none(room: int):
    assert read_all(Shares(SharesContract(normal=0, low=0)), [room] * 5000)[1:] == (0, 0)


def test_most_reads_of_a_fast_worker_look_at_no_lower_lane_first():
    shares, turns = Shares(SharesContract()), 0
    for _ in range(1000):
        turns += shares.turn(250) is not NO_TURN
        shares.read(250)
    assert turns <= 1000 / 12


def test_no_more_than_one_large_read_is_owed_whatever_was_read_before():
    shares = Shares(SharesContract())
    shares.read(1_000_000)
    _, of_normal, of_low = read_all(shares, [10] * 1000)
    assert of_low <= 250 + 10 + 100
    assert of_normal <= 250 + 10 + 100
