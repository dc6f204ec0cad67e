"""What publishers meet while a level of backpressure rejects a lane: an error, or a wait, as they ask."""

from __future__ import annotations

import enum
import random
from typing import TYPE_CHECKING

from headgate.streams.errors import StreamsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.event import Lane
    from headgate.streams.gate import Rejection
    from headgate.streams.receipts import Receipt

_LONGEST_WAIT_SECONDS = 2.0  # the estimate may be wrong, and asking costs the server little


class OnBackpressure(enum.StrEnum):
    """What a publish does about events of a rejected lane: raises BackpressureError, or waits until they are taken."""

    RAISE = "raise"
    WAIT = "wait"


class BackpressureError(StreamsError):
    """Some events were refused: a branch is at a `level` that rejects their `lanes`, maybe for `retry_after_seconds`.

    Nothing of what was refused is written, on no partition; the others are published. `receipts` has one for each event
    in the order given, and None for each that was refused, at the places in `refused`. Publish those again.
    """

    def __init__(self, rejection: Rejection, receipts: Sequence[Receipt | None]) -> None:
        self.level = rejection.level
        self.lanes: frozenset[Lane] = rejection.lanes
        self.retry_after_seconds = rejection.retry_after_seconds
        self.receipts = tuple(receipts)
        self.refused = tuple(place for place, receipt in enumerate(receipts) if receipt is None)
        lanes = " and ".join(sorted(lane.value for lane in rejection.lanes))
        super().__init__(
            f"{len(self.refused)} of {len(receipts)} events refused: level {rejection.level} of backpressure rejects"
            f" lane {lanes}; publish them again in {rejection.retry_after_seconds} s, publish in a higher lane, or"
            " let the publisher wait (on_backpressure='wait')"
        )


def pause_seconds(rejection: Rejection) -> float:
    """How long to wait before asking again; not the same for publishers that were refused together."""
    return min(rejection.retry_after_seconds, _LONGEST_WAIT_SECONDS) * random.uniform(0.25, 1)
