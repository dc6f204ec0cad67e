"""What the lower lanes of a partition get although the higher ones never run empty: their percent of all that is read.

Each event read is worth its percent of one to each of the two lanes. What has added up is read first, once it is worth
a read's while: an event for handlers that take one at a time, an eighth of the read for those that take hundreds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.streams.outcome import NO_TURN, Turn

if TYPE_CHECKING:
    from headgate.contract import SharesContract

_MOST = 250  # events a lane can be owed: one large read's
_PART = 8  # of a read: what a turn is waited for, so that few reads look at the lower lanes first


class Shares:
    """The lower lanes' dues on one partition; pure, nothing but sums."""

    def __init__(self, shares: SharesContract) -> None:
        self._normal_part = shares.normal / 100
        self._low_part = shares.low / 100
        self._normal = 0.0
        self._low = 0.0

    def read(self, events: int) -> None:
        """So many events were read, of whatever lane."""
        self._normal += events * self._normal_part
        self._low += events * self._low_part

    def turn(self, room: int) -> Turn:
        """How many of each lane a read of at most `room` events begins with; what a lane does not use is gone."""
        least = max(1.0, room / _PART)
        if self._normal < least and self._low < least:
            return NO_TURN
        low = min(int(self._low), room)
        normal = min(int(self._normal), room - low)
        self._low -= low
        self._normal -= normal
        self._low, self._normal = min(self._low, _MOST), min(self._normal, _MOST)
        return Turn(normal, low)
