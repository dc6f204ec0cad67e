"""When the next pass over a pipeline is due: pure decisions of what the last one found and what the pilot sees."""

from __future__ import annotations

from dataclasses import dataclass

RESYNC_SECONDS = 300.0
"""An unchanged pipeline is looked over this often."""
DRAIN_SECONDS = 2.0
"""One with branches that drain, this often, as they go when they have nothing left; or whose password changes."""
LONGEST_BACKOFF_SECONDS = 10.0
LOST_SECONDS = 30.0
"""One whose server is out of reach, or refuses its login, this often at last: its Secret may say another by now."""
TURN_SECONDS = 5.0
"""When its server goes out of reach, or comes back, a pass is due at once, but this long after the last."""


@dataclass
class Pace:
    """Of one pipeline; times are seconds of one clock that only grows. `due` is when its next pass is."""

    due: float
    failures: int = 0
    """Passes that did not go well, one after the other."""
    passed: float = float("-inf")
    """When the last pass ended."""
    is_lost: bool = False
    """Whether its server was out of reach when that was last known."""

    @property
    def pause(self) -> float:
        """Seconds between the last pass and the next, as the last one went."""
        if self.failures == 0:
            return RESYNC_SECONDS
        doubled = 2.0 ** min(self.failures - 1, 10)
        if self.is_lost:  # and with it, may be, a thousand more of the same server
            return min(LOST_SECONDS, TURN_SECONDS * doubled)
        return min(LONGEST_BACKOFF_SECONDS, doubled)

    def sees(self, is_lost: bool | None) -> None:
        """Takes in whether its server is out of reach; None when that is not known."""
        if is_lost is not None and is_lost != self.is_lost:
            self.is_lost = is_lost
            self.due = min(self.due, self.passed + TURN_SECONDS)

    def passes(self, now: float, *, well: bool, soon: bool = False) -> None:
        """Takes in that a pass ended now; `soon` when there is more to do that takes time."""
        self.failures = 0 if well and not self.is_lost else self.failures + 1
        self.passed = now
        self.due = now + (DRAIN_SECONDS if soon else self.pause)
