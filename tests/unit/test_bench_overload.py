"""What `make bench-overload` makes of what it saw: nothing lost is overlooked, and no move of a level."""

from __future__ import annotations

import json

import pytest

from bench.overload import FLOORS, NAME, NAMESPACE, Phase, Valve, logged_moves, summary

MS = 1_000_000.0


def phases() -> list[Phase]:
    """One event of High every ms in each phase; while overloaded one of each other lane too."""
    found = [Phase(name) for name in ("quiet", "overload", "drain")]
    for phase in found:
        lanes = ("high", "normal", "low") if phase.name == "overload" else ("high",)
        phase.published = {f"{phase.name}-{lane}-{n}": MS + n for lane in lanes for n in range(200)}
    found[1].refused = 7
    return found


def joined(took: dict[str, float]) -> dict[str, list[int]]:
    """Each event's final record, so many ms after it was due."""
    return {
        event_id: [int(due + took[event_id.rpartition("-")[0]])]
        for phase in phases()
        for event_id, due in phase.published.items()
    }


TOOK = {
    "quiet-high": 100,
    "overload-high": 150,
    "overload-normal": 3000,
    "overload-low": 60000,
    "drain-high": 110,
}


def missed(figures: dict[str, float]) -> set[str]:
    return {floor.figure for floor in FLOORS if floor.missed(figures[floor.figure])}


def test_a_run_in_which_all_went_well_misses_nothing():
    figures = summary(phases(), 80, (2, 2), joined(TOOK), 0)
    assert (figures["overloadRatio"], figures["highP99Ratio"], figures["highP99DrainMs"]) == (3, 1.5, 110)
    assert (figures["published"], figures["refused"], figures["lost"]) == (1000, 7, 0)
    assert missed(figures) == set()


def test_what_is_lost_or_doubled_is_found():
    records = joined(TOOK)
    records.pop("overload-low-3")
    records["quiet-high-1"] *= 2
    figures = summary(phases(), 80, (2, 2), records, 1)
    assert (figures["lost"], figures["doubled"]) == (1, 2)
    assert missed(figures) == {"lost", "doubled"}


@pytest.mark.parametrize(
    ("took", "settled", "moves", "expected"),
    [
        ({"overload-high": 200}, 80, (2, 2), {"highP99Ratio"}),
        ({"overload-low": 900}, 80, (2, 2), {"lowToHighMedian"}),
        ({"quiet-high": 900, "overload-high": 900}, 80, (2, 2), {"highP99UnloadedMs"}),
        ({}, 120, (2, 2), {"overloadRatio"}),
        ({}, 80, (4, 0), {"delayTransitions", "refuseTransitions"}),
    ],
)
def test_each_figure_has_to_reach_what_is_asked_of_it(
    took: dict[str, float], settled: float, moves: tuple[int, int], expected: set[str]
):
    assert missed(summary(phases(), settled, moves, joined(TOOK | took), 0)) == expected


def test_moves_are_counted_from_what_the_operator_logs_of_this_pipeline():
    def line(delayed: list[str], rejected: list[str], pipeline: str = f"{NAMESPACE}/{NAME}") -> str:
        said = {"event": "level changed", "pipeline": pipeline, "delayed": delayed, "rejected": rejected}
        return json.dumps(said)

    log = [
        line(["low"], []),
        line(["low"], ["low"]),
        line(["low"], [], "other/canal"),
        '{"event": "scaled"}',
        "no JSON",
        line([], ["low"]),
        line([], []),
    ]
    assert logged_moves("\n".join(log)) == (2, 2)


def test_moves_are_counted_from_what_the_server_shows():
    valve = Valve.__new__(Valve)
    valve.seen = [(False, False), (True, False), (False, False), (True, False), (True, True), (False, True)]
    assert (valve.moves(0), valve.moves(1)) == (4, 1)
