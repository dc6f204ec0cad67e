"""How workers start: how long it takes them until they can work, and whether they stay up."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_operator.autoscale.inputs import ScalerInputs

STARTS_KEPT = 5  # the median of so many: one that waited for an image to be pulled is no rule
LONGEST_START_SECONDS = 120.0  # a start that took longer is not anticipated any further
LOOP_SECONDS = 60.0  # after a worker ended badly, how long more are asked for with care
STEP_SECONDS = 5.0  # between two steps up at least, while a start was not seen to take longer
STAY_SECONDS = 20.0  # a worker that was ready for so long stays up
PATIENCE_SECONDS = 60.0  # for the first worker to be ready, at least; else three times a usual start


@dataclass(frozen=True)
class Starts:
    """What is remembered of workers that were asked for."""

    asked: tuple[tuple[int, float], ...] = ()
    """(workers asked for in all, since when) of those that are not ready yet, fewest first."""
    took: tuple[float, ...] = ()
    """Seconds from asking to ready of the last starts."""
    restarts: int | None = None
    failed: float | None = None
    """When a worker last ended badly."""
    least: tuple[tuple[float, int], ...] = ()
    """(time, ready workers) since then, within STAY_SECONDS; rising, as more before fewer decide nothing."""
    none_since: float | None = None
    """Since when workers are asked for and none is ready."""

    @property
    def seconds(self) -> float:
        """What a start is expected to take, from asking to ready; 0 while none was seen."""
        return min(statistics.median(self.took), LONGEST_START_SECONDS) if self.took else 0.0

    def add(self, inputs: ScalerInputs, asked_at: float) -> Starts:
        """With one more look; workers that are new in it were asked for at `asked_at`."""
        now, current, ready, restarts = inputs.now, inputs.current, inputs.ready, inputs.restarts
        took = [now - since for count, since in self.asked if count <= ready]
        asked = tuple((count, since) for count, since in self.asked if ready < count <= current)
        if current > max(ready, asked[-1][0] if asked else 0):
            asked = (*asked, (current, asked_at))
        failed, least = self.failed, self.least
        if self.restarts is not None and restarts > self.restarts:
            failed = now
        if failed is not None and now - failed < LOOP_SECONDS:
            kept = tuple((at, count) for at, count in least if at > now - STAY_SECONDS and count < ready)
            least = (*kept, (now, ready))
        else:
            failed, least = None, ()
        none_since = None
        if current > 0 and ready == 0:
            none_since = now if self.none_since is None else self.none_since
        return Starts(
            asked=asked,
            took=(*self.took, *took)[-STARTS_KEPT:],
            restarts=restarts,
            failed=failed,
            least=least,
            none_since=none_since,
        )

    def is_over(self, now: float) -> bool:
        """Whether the workers asked for last are ready, or had the time to be."""
        return not self.asked or now - self.asked[-1][1] >= max(self.seconds, STEP_SECONDS)

    def careful(self, now: float, current: int) -> int | None:
        """Most workers to ask for while those there are do not stay up; None when there is nothing to fear."""
        if self.least:
            return max(current, 1, 2 * self.least[0][1])
        patience = max(PATIENCE_SECONDS, 3 * self.seconds)
        if self.none_since is not None and now - self.none_since >= patience:
            return max(current, 1)
        return None
