"""All that a ledger run does on purpose, derived from its seed: the events, what becomes of each, and every strike.

Nothing here looks at a clock or a server, so two runs with one seed publish the same events, fail the same attempts and
strike the same workers at the same ticks. What they do not share is the operating system's timing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from headgate.event import Lane, NewEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

BRANCHES = ("plain", "counting", "emitting", "batching", "ordered")
ECHO = "+echo"
_LANES = tuple(Lane)
_EVENTS_A_KEY = 50
_MOST_GENERATIONS = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """One event and what becomes of it.

    `sequence` counts from 1 within its key, `fails` are how many first attempts fail in each branch, `is_hopeless` says
    that `plain` gives it up, `is_skipped` that `batching` filters it out. `echoes` emits another event into the own
    pipeline; `parts` are what it is split into.
    """

    id: str
    key: str | None
    sequence: int
    lane: Lane
    fails: tuple[int, ...]
    is_hopeless: bool
    is_skipped: bool
    echoes: bool
    parts: tuple[Planned, ...]

    @property
    def data(self) -> dict[str, Any]:
        """What handlers are told to do; what is ordinary is left out."""
        wish: dict[str, Any] = {}
        if self.key is not None:
            wish["sequence"] = self.sequence
        if any(self.fails):
            wish["fails"] = dict(zip(BRANCHES, self.fails, strict=True))
        if self.is_hopeless:
            wish["hopeless"] = True
        if self.is_skipped:
            wish["skipped"] = True
        if self.echoes:
            wish["echoes"] = True
        if self.parts:
            wish["parts"] = [{"id": part.id, "data": part.data} for part in self.parts]
        return wish

    def new_event(self) -> NewEvent:
        """As it is published."""
        return NewEvent(id=self.id, key=self.key, lane=self.lane, data=self.data)

    def whole(self) -> Iterator[Planned]:
        """Itself and its parts, theirs included."""
        yield self
        for part in self.parts:
            yield from part.whole()


@dataclass(frozen=True)
class Plan:
    """A run of `count` published events."""

    seed: str
    count: int

    @cached_property
    def published(self) -> tuple[Planned, ...]:
        """Every event that is published, in the order it is."""
        seen: dict[str, int] = {}
        return tuple(self._published(number, seen) for number in range(self.count))

    def roots(self) -> Iterator[Planned]:
        """Every event that has a join of its own: what is published, and what is echoed."""
        for event in self.published:
            yield event
            if event.echoes:
                yield _plainest(event.id + ECHO, event.lane)

    def handled(self) -> Iterator[Planned]:
        """Every event that each branch handles: the roots and all their parts."""
        for root in self.roots():
            yield from root.whole()

    @cached_property
    def total(self) -> int:
        """How many events each branch handles."""
        return sum(1 for _ in self.handled())

    def _published(self, number: int, seen: dict[str, int]) -> Planned:
        event_id = f"e{number}"
        dice = self._dice(event_id)
        key, sequence = None, 0
        if dice[0] >= 16:  # one in sixteen has no key
            # The smaller of two draws: some keys are hot, as keys are in life.
            most = max(4, self.count // _EVENTS_A_KEY)
            drawn = min(int.from_bytes(dice[1:4]) % most, int.from_bytes(dice[4:7]) % most)
            key = f"k{drawn}"
            sequence = seen[key] = seen.get(key, 0) + 1
        # Lanes overtake each other, so one key keeps to one.
        lane = _LANES[(dice[7] if key is None else int(key[1:])) % len(_LANES)]
        return self._planned(event_id, key, sequence, lane, generation=0)

    def _planned(self, event_id: str, key: str | None, sequence: int, lane: Lane, generation: int) -> Planned:
        dice = self._dice(event_id)
        is_hopeless = dice[13] == 0
        parts: tuple[Planned, ...] = ()
        if dice[14] < 16 and not is_hopeless and generation < _MOST_GENERATIONS:
            ids = [f"{event_id}.{number}" for number in range(1 + dice[14] % 4)]
            parts = tuple(self._planned(each, None, 0, lane, generation + 1) for each in ids)
        return Planned(
            event_id,
            key,
            sequence,
            lane,
            fails=tuple((part < 10) + (part < 3) for part in dice[8:13]),
            is_hopeless=is_hopeless,
            is_skipped=dice[16] < 16,
            echoes=dice[15] < 16 and generation == 0,
            parts=parts,
        )

    def _dice(self, event_id: str) -> bytes:
        return blake2b(f"{self.seed}/{event_id}".encode(), digest_size=17).digest()


def _plainest(event_id: str, lane: Lane) -> Planned:
    """An event to which nothing happens: no key, no failure, no parts."""
    none = (0,) * len(BRANCHES)
    return Planned(event_id, None, 0, lane, none, is_hopeless=False, is_skipped=False, echoes=False, parts=())


@dataclass(frozen=True, slots=True)
class Strike:
    """One thing done to the workers: `kill`, `pause` or `drain` one of them, or `cut` a share of all connections."""

    kind: str
    slot: int = 0
    seconds: float = 0.0
    share: float = 1.0


def strikes(seed: str, slots: int, tick_seconds: float, claim_seconds: float) -> Iterator[list[Strike]]:
    """What is done at each tick, without end: always a kill, now and then a pause, a drain, a cut.

    A pause is longer than the claim time, and whoever is paused is left alone until it goes on.
    """
    dice = random.Random(f"strikes/{seed}")
    awake_at = [0] * slots
    tick = 0
    while True:
        awake = [slot for slot in range(slots) if awake_at[slot] <= tick]
        dice.shuffle(awake)
        now = [Strike("kill", awake.pop())]
        if dice.random() < 0.25 and len(awake) > slots // 2:
            slot, seconds = awake.pop(), round(claim_seconds * dice.uniform(1.2, 3), 2)
            awake_at[slot] = tick + int(seconds / tick_seconds) + 2
            now.append(Strike("pause", slot, seconds))
        if dice.random() < 0.1 and awake:
            now.append(Strike("drain", awake.pop()))
        if dice.random() < 0.25:
            now.append(Strike("cut", share=dice.choice((0.3, 1.0))))
        yield now
        tick += 1
