"""What the last seconds have in common: the highest of some numbers, the growth of a counter."""

from __future__ import annotations

from dataclasses import dataclass

_MARKS = 16  # readings kept of the time asked for


@dataclass(frozen=True)
class Window:
    """Numbers with their times; `highest` is 0 before the first."""

    values: tuple[tuple[float, int], ...] = ()
    """(time, number), oldest first; falling, as a lower one before a higher decides nothing."""

    def add(self, now: float, value: int, seconds: float) -> Window:
        """With one more number, and without those that are older than `seconds` or no higher than this one."""
        since = now - seconds
        kept = tuple((at, number) for at, number in self.values if at > since and number > value)
        return Window((*kept, (now, value)))

    @property
    def highest(self) -> int:
        """Of all numbers in it."""
        return self.values[0][1] if self.values else 0


@dataclass(frozen=True)
class Growth:
    """How much a counter grew of late, from a few readings spread over the time that is asked for."""

    marks: tuple[tuple[float, int], ...] = ()
    """(time, count), oldest first."""

    def add(self, now: float, count: int, seconds: float) -> Growth:
        """With one more reading. A counter that fell was reset: counting starts anew."""
        marks = self.marks
        if marks and (count < marks[-1][1] or now < marks[-1][0]):
            marks = ()
        spacing = seconds / _MARKS
        if len(marks) > 1 and marks[-1][0] - marks[-2][0] < spacing:
            marks = marks[:-1]
        kept = tuple((at, value) for at, value in marks if at > now - seconds - spacing)
        return Growth((*kept, (now, count)))

    def per_second(self, seconds: float) -> float:
        """Growth a second over the last `seconds`, also when there are readings of a part of them only."""
        (_, first), (_, last) = self.marks[0], self.marks[-1]
        return (last - first) / max(seconds, 1.0)
