"""Which crash points there are, and which are still to be struck."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

from chaos.operator.fate import Point, Side

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

MOST_OCCURRENCES = 2
"""Of one write within one change: what is done again and again (a gate that is renewed, a sweep) is struck twice."""
_MOST_TRIES = 3
_UNMET_SHARE = 0.04
_UNMET_AT_LEAST = 4
_LEASE = "leases/"


class Points:
    """The crash points of every change, by the change's number. A point that was not met is tried again."""

    def __init__(self) -> None:
        self._left: defaultdict[int, deque[Point]] = defaultdict(deque)
        self._known: set[tuple[int, Point]] = set()
        self._tries: Counter[tuple[int, Point]] = Counter()
        self.struck = 0
        self.unmet: list[tuple[int, Point]] = []

    def add(self, change: int, writes: Mapping[str, int]) -> None:
        """All points of the writes that a change was seen to take."""
        for write, count in sorted(writes.items()):
            most = 1 if _LEASE in write else MOST_OCCURRENCES
            for occurrence in range(1, min(count, most) + 1):
                for side in Side:
                    point = Point(write, occurrence, side)
                    if (change, point) not in self._known:
                        self._known.add((change, point))
                        self._left[change].append(point)

    def sample(self, dice: random.Random, count: int) -> None:
        """Leaves only so many, equally many of each change as far as there are: a walk meets one of each."""
        shares = [
            count // len(self._left) + (place < count % len(self._left)) for place in range(len(self._left))
        ]
        for share, change in zip(shares, sorted(self._left), strict=True):
            points = list(self._left[change])
            self._left[change] = deque(dice.sample(points, min(share, len(points))))

    def take(self, change: int) -> Point | None:
        """The next point of a change; None when there is none left."""
        return self._left[change].popleft() if self._left[change] else None

    def met(self) -> None:
        """A point that was taken was struck."""
        self.struck += 1

    def missed(self, change: int, point: Point) -> None:
        """The write did not come this time: again, a few times."""
        self._tries[change, point] += 1
        if self._tries[change, point] < _MOST_TRIES:
            self._left[change].append(point)
        else:
            self.unmet.append((change, point))

    @property
    def most_unmet(self) -> int:
        """So many points may stay unmet; with more of them the run did not try what it says.

        Sweeps, gates and the aggregation of events write by the clock: a reference run that was slow just then has
        seen writes that others do not make. Of about 500 points 5 to 15 are such; of a sample, by chance, as many as 4.
        """
        return max(_UNMET_AT_LEAST, int(_UNMET_SHARE * (self.struck + len(self.unmet))))

    @property
    def last(self) -> int:
        """Number of the last change with points left; -1 when none is left."""
        return max((change for change, points in self._left.items() if points), default=-1)

    @property
    def left(self) -> int:
        """How many are left."""
        return sum(map(len, self._left.values()))

    @property
    def total(self) -> int:
        """How many there are in all."""
        return len(self._known)
