"""What the figures must reach: below a floor, or above a limit, `make bench` fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Floor:
    """What one figure of the last line must be: at least `least`, or less than `below`."""

    figure: str
    meaning: str
    least: float | None = None
    below: float | None = None

    def missed(self, value: float) -> str | None:
        """What to say of a value that is not good enough; None for one that is."""
        if self.least is not None and value < self.least:
            return f"{self.figure} is {value:g}, at least {self.least:g} is asked: {self.meaning}"
        if self.below is not None and value >= self.below:
            return f"{self.figure} is {value:g}, less than {self.below:g} is asked: {self.meaning}"
        return None


FLOORS = (
    Floor("ratio", "one worker, one branch, to the raw C client", least=0.4),
    Floor("fanout5ToOneBranch", "deliveries/s with five branches to those with one", least=0.8),
    Floor("latency5000P99Ms", "publish to handler at 5,000 events/s", below=3),
    Floor("workerMemoryMb", "peak resident memory of a worker", below=80),
    Floor("bestPeerRatio", "one worker to the best peer, both event by event", least=30),
    Floor("bestBatchPeerRatio", "one worker to the best peer, both in batches of 100", least=5),
)


def missed(figures: Mapping[str, object]) -> list[str]:
    """Every floor that was missed, of those that were measured."""
    said = (floor.missed(float(str(figures[floor.figure]))) for floor in FLOORS if floor.figure in figures)
    return [text for text in said if text]
