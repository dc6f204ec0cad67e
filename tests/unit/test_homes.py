"""Where events belong while partitions are added: of all whose events are taken, everybody finds the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from headgate.streams import PipelineKeys
from headgate.streams.homes import Homes

if TYPE_CHECKING:
    from headgate.streams import Server

KEYS = PipelineKeys("test", "canal")
NOBODY = cast("Server", None)


@st.composite
def growths(draw: st.DrawFn) -> list[dict[int, int]]:
    """What each partition says after every step; passes die anywhere, the next may want more."""
    state = dict.fromkeys(range(wanted := draw(st.integers(1, 3))), wanted)
    states = [dict(state)]
    for more in draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)):
        wanted = max(wanted + more, len(state))
        new = [number for number in range(wanted) if number not in state]
        old = [number for number in state if state[number] < wanted]
        steps = [*new, *old]
        for number in steps[: draw(st.integers(0, len(steps)))]:
            state[number] = wanted
            states.append(dict(state))
    return states


def homes_of(numbers: list[int]) -> Homes:
    return Homes(NOBODY, "", 600, tuple(numbers))


def home(state: dict[int, int], key: str) -> int:
    keys = KEYS.with_partitions(state[0])
    return homes_of([min(state[number], state[0]) for number in range(state[0])]).home(keys, key)


@given(growths(), st.data())
def test_whoever_read_whatever_when_has_an_event_taken_only_where_all_others_have_it_taken(
    states: list[dict[int, int]], data: st.DataObject
) -> None:
    now = states[at := data.draw(st.integers(0, len(states) - 1))]
    first = data.draw(st.integers(0, at))
    known = states[first][0]
    reads = [
        min(states[data.draw(st.integers(first, at)) if number else first][number], known)
        for number in range(known)
    ]
    keys = KEYS.with_partitions(known)
    homes = homes_of(reads)
    for key in (f"k{n}" for n in range(50)):
        found = homes.home(keys, key)
        told = homes.number(keys, found)
        assert KEYS.with_partitions(told).partition_of(key) == found
        if told == now[found]:
            assert found == home(now, key), (key, reads, now)


@given(growths())
def test_a_key_only_moves_on_to_partitions_that_are_newer(states: list[dict[int, int]]) -> None:
    for key in (f"k{n}" for n in range(50)):
        places = [home(state, key) for state in states]
        assert places == sorted(places), (key, states)


@given(growths())
def test_where_a_key_was_before_takes_it_no_more_from_anybody(states: list[dict[int, int]]) -> None:
    for key in (f"k{n}" for n in range(50)):
        left: set[int] = set()
        places: list[int] = []
        for state in states:
            places.append(home(state, key))
            left = set(places) - {places[-1]}
            assert all(KEYS.with_partitions(state[number]).partition_of(key) != number for number in left)


def test_without_a_growth_it_is_the_partition_of_the_key() -> None:
    keys = KEYS.with_partitions(5)
    for homes in (Homes(NOBODY, "", 600), homes_of([5] * 5)):
        for key in (f"k{n}" for n in range(50)):
            number = homes.home(keys, key)
            assert (number, homes.number(keys, number)) == (keys.partition_of(key), 5)
