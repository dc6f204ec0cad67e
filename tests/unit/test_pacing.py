"""When the next pass over a pipeline is due."""

from __future__ import annotations

from headgate_operator.pacing import DRAIN_SECONDS, RESYNC_SECONDS, TURN_SECONDS, Pace


def pauses(pace: Pace, count: int, *, well: bool) -> list[float]:
    """Seconds to each of the passes that follow."""
    found = []
    for _ in range(count):
        now = pace.due
        pace.passes(now, well=well)
        found.append(pace.due - now)
    return found


def test_one_that_went_well_is_looked_over_seldom_and_one_with_more_to_do_soon():
    pace = Pace(due=0)
    pace.passes(10, well=True)
    assert pace.due == 10 + RESYNC_SECONDS
    pace.passes(20, well=True, soon=True)
    assert pace.due == 20 + DRAIN_SECONDS


def test_one_that_fails_is_tried_again_soon_and_then_every_ten_seconds():
    pace = Pace(due=0)
    assert pauses(pace, 7, well=False) == [1, 2, 4, 8, 10, 10, 10]
    assert pauses(pace, 1, well=True) == [RESYNC_SECONDS]


def test_one_whose_server_goes_out_of_reach_has_a_pass_at_once_and_then_every_half_minute_at_last():
    for well in (True, False):  # a pass may reach it where the pilot does not
        pace = Pace(due=0)
        pace.passes(0, well=True)
        pace.sees(is_lost=True)
        assert pace.due <= 20
        assert pauses(Pace(due=20, is_lost=True), 6, well=well) == [5, 10, 20, 30, 30, 30]


def test_when_its_server_is_back_that_is_told_at_once():
    pace = Pace(due=0, is_lost=True, failures=9)
    pace.passes(100, well=False)
    assert pace.due == 130
    pace.sees(is_lost=None)
    assert pace.due == 130
    pace.sees(is_lost=False)
    assert pace.due == 100 + TURN_SECONDS


def test_a_server_that_comes_and_goes_causes_no_more_than_a_pass_every_few_seconds():
    pace, passes = Pace(due=0), 0
    for tick in range(100):
        pace.sees(is_lost=tick % 2 == 0)
        if tick >= pace.due:
            pace.passes(tick, well=True)
            passes += 1
    assert passes <= 100 / TURN_SECONDS
