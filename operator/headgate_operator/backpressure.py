"""Which level of backpressure a branch is at: a pure decision with hysteresis.

A level protects the lanes that it does not delay. It is crossed when the lanes that flow at present hold `lag`
events or one older than `ageSeconds`, and the protected ones are not fine; it is released when the protected ones are
fine: fewer than `releaseLag` events, none older than half of `ageSeconds`. What a gate holds back decides nothing, or
it would hold itself. Why it is so: docs/decisions/2026-11-21-backpressure-levels.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from headgate.event import Lane

MIN_HOLD_SECONDS = 5.0  # a level that was crossed stays at least this long: bounds how often a gate can move


@dataclass(frozen=True)
class LaneLoad:
    """Unsettled events of one lane (None: cannot be measured), and the age of the oldest in seconds."""

    backlog: int | None = 0
    age_seconds: float = 0.0


@dataclass(frozen=True)
class Level:
    """One level: `spec.backpressure.levels[]`."""

    name: str
    lag: int
    release_lag: int
    delay: frozenset[Lane]
    age_seconds: float | None = None


@dataclass(frozen=True)
class LevelState:
    """The level a branch is at (`index` 0 is none, 1 the first) and when it got there, on the caller's clock."""

    index: int = 0
    since: float = float("-inf")


@dataclass(frozen=True)
class _Load:
    backlog: int
    age_seconds: float


def delayed_lanes(state: LevelState, levels: Sequence[Level]) -> frozenset[Lane]:
    """The lanes a branch's gate holds back at this level."""
    # A spec with fewer levels than before releases at once.
    return levels[state.index - 1].delay if 0 < state.index <= len(levels) else frozenset()


def decide(
    state: LevelState, levels: Sequence[Level], lanes: Mapping[Lane, LaneLoad], now: float
) -> LevelState:
    """The level to be at from `now` on, at most one step from the last; an unknown backlog holds the level.

    `levels` are in the order they are crossed; a lane that is not in `lanes` is empty.
    """
    if state.index > len(levels):
        state = LevelState(len(levels), now)
    flowing = _load(lanes, delayed_lanes(state, levels))
    if flowing is None:
        return state
    if state.index < len(levels):
        above = levels[state.index]
        protected = _load(lanes, above.delay)
        if protected is not None and _crossed(above, flowing) and not _fine(above, protected):
            return LevelState(state.index + 1, now)
    if state.index > 0 and now - state.since >= MIN_HOLD_SECONDS:
        here = levels[state.index - 1]
        protected = _load(lanes, here.delay)
        if protected is not None and _fine(here, protected):
            return LevelState(state.index - 1, now)
    return state


def _load(lanes: Mapping[Lane, LaneLoad], without: AbstractSet[Lane]) -> _Load | None:
    backlog, age = 0, 0.0
    for lane, load in lanes.items():
        if lane in without:
            continue
        if load.backlog is None:
            return None
        backlog += load.backlog
        age = max(age, load.age_seconds)
    return _Load(backlog, age)


def _crossed(level: Level, load: _Load) -> bool:
    return load.backlog >= level.lag or (
        level.age_seconds is not None and load.age_seconds >= level.age_seconds
    )


def _fine(level: Level, load: _Load) -> bool:
    return load.backlog < max(1, level.release_lag) and (
        level.age_seconds is None or load.age_seconds < level.age_seconds / 2
    )
