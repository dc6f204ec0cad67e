"""The virtual clock of a test: it stands still while anything works, and is set forward when all that is left waits."""

from __future__ import annotations


class Clock:
    """Virtual time since the test began. Whole milliseconds, so that sums of back-offs are exact."""

    def __init__(self) -> None:
        self.now_ms = 0

    @property
    def seconds(self) -> float:
        """Virtual seconds that have passed."""
        return self.now_ms / 1000

    def forward(self, to_ms: int) -> None:
        """Sets it forward, never back."""
        self.now_ms = max(self.now_ms, to_ms)
