"""Which level of backpressure a branch is at: a pure decision with hysteresis.

A level that delays protects the lanes that it does not delay. It is crossed when the lanes that flow at present hold
`lag` events or one older than `ageSeconds`, and the protected ones are not fine; it is released when the protected ones
are fine: fewer than `releaseLag` events, none older than half of `ageSeconds`. What a gate holds back decides nothing,
or it would hold itself. Why it is so: docs/decisions/2026-11-21-backpressure-levels.md.

A level that rejects bounds what there is: all lanes count, held back or not. No rejection keeps events from being
handled, so none holds itself. Why the two are apart: docs/decisions/2026-11-21-rejecting-is-for-the-whole-pipeline.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from headgate.event import Lane

MIN_HOLD_SECONDS = 5.0  # a level that was crossed stays at least this long: bounds how often a gate can move
MOST_RETRY_SECONDS = 60  # that a publisher is told to stay away: an estimate is not worth more


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
    delay: frozenset[Lane] = field(default_factory=frozenset)
    age_seconds: float | None = None
    reject: frozenset[Lane] = field(default_factory=frozenset)


@dataclass(frozen=True)
class LevelState:
    """The level whose delays a branch has, and the one whose rejections, each since when on the caller's clock.

    0 is none, 1 the first.
    """

    index: int = 0
    since: float = float("-inf")
    rejecting: int = 0
    rejecting_since: float = float("-inf")

    @property
    def highest(self) -> int:
        """The highest level that has an effect."""
        return max(self.index, self.rejecting)


@dataclass(frozen=True)
class _Load:
    backlog: int
    age_seconds: float


def delayed_lanes(state: LevelState, levels: Sequence[Level]) -> frozenset[Lane]:
    """The lanes a branch's gate holds back at this level."""
    # A spec with fewer levels than before releases at once.
    return levels[state.index - 1].delay if 0 < state.index <= len(levels) else frozenset()


def rejected_lanes(state: LevelState, levels: Sequence[Level]) -> frozenset[Lane]:
    """The lanes whose events publishers are refused for this branch's sake."""
    return levels[state.rejecting - 1].reject if 0 < state.rejecting <= len(levels) else frozenset()


def resumed(held: AbstractSet[Lane], levels: Sequence[Level], now: float) -> LevelState:
    """The state to begin with where a gate of somebody before us holds these lanes back: at its level, since `now`.

    Of levels that delay the same lanes it is the first: the gate of each is the same. A gate that no level asks for,
    as after a change of the spec, says nothing, and neither does it of rejections.
    """
    index = next((at for at, level in enumerate(levels, start=1) if held and level.delay == held), 0)
    return LevelState(index, now) if index else LevelState()


def decide(
    state: LevelState, levels: Sequence[Level], lanes: Mapping[Lane, LaneLoad], now: float
) -> LevelState:
    """The level to be at from `now` on, at most one step from the last; an unknown backlog holds the level.

    `levels` are in the order they are crossed; a lane that is not in `lanes` is empty.
    """
    if state.index > len(levels):
        state = replace(state, index=len(levels), since=now)
    if state.rejecting > len(levels):
        state = replace(state, rejecting=len(levels), rejecting_since=now)
    index = _delaying(state, levels, lanes, now)
    if index != state.index:
        state = replace(state, index=index, since=now)
    rejecting = _rejecting(state, levels, lanes, now)
    if rejecting != state.rejecting:
        state = replace(state, rejecting=rejecting, rejecting_since=now)
    return state


def retry_after_seconds(
    state: LevelState, levels: Sequence[Level], lanes: Mapping[Lane, LaneLoad], settled: float, now: float
) -> int:
    """Seconds after which the rejection in force may be over at the earliest, from 1 to MOST_RETRY_SECONDS.

    What is more than `releaseLag` has to be settled first, at `settled` events a second; and a level that was crossed
    stays for MIN_HOLD_SECONDS. An unknown backlog says nothing.
    """
    held = max(0.0, state.rejecting_since + MIN_HOLD_SECONDS - now)
    load = _load(lanes, frozenset())
    if load is not None and 0 < state.rejecting <= len(levels):
        excess = load.backlog - levels[state.rejecting - 1].release_lag
        if excess > 0:
            held = max(held, excess / settled if settled > 0 else math.inf)
    return int(max(1, min(MOST_RETRY_SECONDS, math.ceil(min(held, MOST_RETRY_SECONDS)))))


def _delaying(state: LevelState, levels: Sequence[Level], lanes: Mapping[Lane, LaneLoad], now: float) -> int:
    flowing = _load(lanes, delayed_lanes(state, levels))
    if flowing is None:
        return state.index
    above = next((at for at in range(state.index, len(levels)) if levels[at].delay), None)
    if above is not None:
        protected = _load(lanes, levels[above].delay)
        if protected is not None and _crossed(levels[above], flowing) and not _fine(levels[above], protected):
            return above + 1
    if state.index > 0 and now - state.since >= MIN_HOLD_SECONDS:
        here = levels[state.index - 1]
        protected = _load(lanes, here.delay)
        # A level that delays nothing any more, because the spec was changed, has nothing to hold.
        if not here.delay or (protected is not None and _fine(here, protected)):
            return next((at + 1 for at in range(state.index - 2, -1, -1) if levels[at].delay), 0)
    return state.index


def _rejecting(state: LevelState, levels: Sequence[Level], lanes: Mapping[Lane, LaneLoad], now: float) -> int:
    above = next((at for at in range(state.rejecting, len(levels)) if levels[at].reject), None)
    if above is not None:
        load = _bounded(levels[above], lanes)
        if load is not None and _crossed(levels[above], load):
            return above + 1
    if state.rejecting > 0 and now - state.rejecting_since >= MIN_HOLD_SECONDS:
        here = levels[state.rejecting - 1]
        load = _bounded(here, lanes)
        if not here.reject or (load is not None and _fine(here, load)):
            return next((at + 1 for at in range(state.rejecting - 2, -1, -1) if levels[at].reject), 0)
    return state.rejecting


def _bounded(level: Level, lanes: Mapping[Lane, LaneLoad]) -> _Load | None:
    """All that waits, and the age of what the level lets through: what it holds back gets old on purpose."""
    whole, spared = _load(lanes, frozenset()), _load(lanes, level.delay | level.reject)
    if whole is None or spared is None:
        return None
    return _Load(whole.backlog, spared.age_seconds)


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
