"""A walk: the script from its first change on, in a new namespace, with a death a change or one sort of weather."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.operator.fate import ANY, Point, Side
from chaos.operator.lane import UnsettledError
from chaos.operator.script import script
from chaos.operator.weather import Kind, Weather

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from chaos.operator.lane import Lane
    from chaos.operator.points import Points
    from chaos.operator.state import State

PATIENCE_SECONDS = 60.0
"""Until a state must be reached, by our clock; after it, it is a difference."""
_STORM_PATIENCE_SECONDS = 120.0
_MEETING_SECONDS = 1.5
"""How long a settled operator is waited for, when its point is a write that comes by the clock."""
_NUMBERS = itertools.count()


@dataclass
class Tally:
    """What all walks together did and found."""

    runs: int = 0
    """Changes that were made and compared."""
    crashes: int = 0
    fault_runs: int = 0
    faults: int = 0
    exits: int = 0
    differences: list[str] = field(default_factory=list)


class Walker:
    """Walks through the script on one lane, again and again. `say` gets a line a difference."""

    def __init__(
        self, lane: Lane, reference: Sequence[State], tally: Tally, say: Callable[[str], None]
    ) -> None:
        self._lane = lane
        self._reference = reference
        self._tally = tally
        self._say = say

    async def crash(self, points: Points) -> None:
        """One walk that dies once a change, as long as there are points to die at."""
        await self._lane.enter(f"crash-{next(_NUMBERS)}", Weather(Kind.FAIR, "", 1))
        for number, change in enumerate(script()):
            if number > points.last:
                return
            point = points.take(number)
            self._lane.fate.renew(point)
            await self._lane.make(change)
            if point is not None:
                if await self._dies(number):
                    points.met()
                    self._tally.crashes += 1
                    await self._lane.restart()
                else:
                    points.missed(number, point)
                    self._lane.fate.point = None
            if not await self._agrees(number, f"killed {point}", PATIENCE_SECONDS):
                return

    async def crash_twice(self, dice: random.Random) -> None:
        """One walk that dies at any write of each change, and again at any write of its recovery."""
        await self._lane.enter(f"twice-{next(_NUMBERS)}", Weather(Kind.FAIR, "", 1))
        self._lane.collects = False  # the garbage collector is late: it comes when all is made again
        for number, change in enumerate(script()):
            deaths = []
            self._lane.fate.renew(Point(ANY, dice.randint(1, 12), dice.choice(list(Side))))
            await self._lane.make(change)
            for _ in range(2):
                if not await self._dies(number):
                    break
                deaths.append(str(self._lane.fate.point))
                self._tally.crashes += 1
                await self._lane.restart(Point(ANY, dice.randint(1, 12), dice.choice(list(Side))))
            self._lane.fate.point = None
            if self._lane.fate.struck.is_set():
                await self._lane.restart()
            self._lane.collects = True
            if not await self._agrees(number, f"killed {' and '.join(deaths)}", PATIENCE_SECONDS):
                return
            self._lane.collects = number != len(self._reference) - 2

    async def storm(self, kind: Kind, seed: str) -> None:
        """One walk in bad weather, without a death."""
        weather = Weather(kind, seed, self._lane.pace)
        await self._lane.enter(f"storm-{next(_NUMBERS)}", weather)
        try:
            for number, change in enumerate(script()):
                self._lane.fate.renew()
                await self._lane.make(change)
                self._tally.fault_runs += 1
                if not await self._agrees(number, f"{kind}, seed {seed}", _STORM_PATIENCE_SECONDS):
                    return
        finally:
            self._tally.faults += weather.faults

    async def rest(self) -> None:
        """One walk whose operator is killed whenever all is done: the next one writes nothing of note."""
        await self._lane.enter(f"rest-{next(_NUMBERS)}", Weather(Kind.FAIR, "", 1))
        for number, change in enumerate(script()):
            self._lane.fate.renew()
            await self._lane.make(change)
            if not await self._agrees(number, "nothing", PATIENCE_SECONDS):
                return
            before = await self._lane.versions()
            await self._lane.restart()
            self._tally.crashes += 1
            if not await self._agrees(number, "killed at rest", PATIENCE_SECONDS):
                return
            if (after := await self._lane.versions()) != before:
                changed = [
                    name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
                ]
                self._differs(number, "killed at rest", f"a second pass wrote {', '.join(sorted(changed))}")

    async def _dies(self, number: int) -> bool:
        """Whether the operator meets its point; False when all is settled and it did not."""
        struck = self._lane.fate.struck
        await self._lane.reached(self._reference[number], PATIENCE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(struck.wait(), _MEETING_SECONDS)
        return struck.is_set()

    async def _agrees(self, number: int, what: str, seconds: float) -> bool:
        self._tally.runs += 1
        try:
            differs = await self._lane.reached(self._reference[number], seconds)
        except UnsettledError as error:
            differs = str(error)
        self._tally.exits += self._lane.take_exits()
        if differs:
            self._differs(number, what, differs)
        return not differs

    def _differs(self, number: int, what: str, differs: str) -> None:
        told = f"{script()[number].name}, {what}, in {self._lane.namespace}:\n{differs}"
        self._tally.differences.append(told)
        self._say(f"DIFFERENCE: {told[:6000]}")
