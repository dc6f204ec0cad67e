"""A circuit breaker: a target that fails again and again is left alone for a while, then tried with one event.

Pure: time is passed in, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Closed: events flow. Open: none does. Half-open: one probe is under way, and its outcome decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """The state machine. `failures` in a row open it for `open_seconds`; 0 failures: it never opens.

    Each change of state begins a new epoch. What was begun in an earlier one says nothing about the target now, so an
    outcome is given with the epoch its attempt was begun in, and one of another epoch is ignored.
    """

    def __init__(self, failures: int, open_seconds: float) -> None:
        self.state = State.CLOSED
        self._limit = failures
        self._open_seconds = open_seconds
        self._in_a_row = 0
        self._epoch = 0
        self._open_until = 0.0

    def begin(self, now: float) -> int | None:
        """The epoch of an attempt that may begin now; None when it may not. After the open time, one: the probe."""
        if self.state is State.OPEN and now >= self._open_until:
            self._enter(State.HALF_OPEN)
            return self._epoch
        return self._epoch if self.state is State.CLOSED else None

    def succeeded(self, epoch: int) -> None:
        """An attempt of `epoch` reached its target, which is well."""
        if epoch != self._epoch:
            return
        self._in_a_row = 0
        if self.state is State.HALF_OPEN:
            self._enter(State.CLOSED)

    def failed(self, epoch: int, now: float) -> None:
        """An attempt of `epoch` failed in a way that tells of the target and not of the event."""
        if epoch != self._epoch:
            return
        self._in_a_row += 1
        if self.state is State.HALF_OPEN or 0 < self._limit <= self._in_a_row:
            self._open_until = now + self._open_seconds
            self._enter(State.OPEN)

    def paused_until(self, now: float, probe_seconds: float) -> float:
        """When the next attempt may begin: now or earlier while closed.

        While a probe is under way, `probe_seconds` from now: it takes no longer, and its outcome decides anew.
        """
        if self.state is State.HALF_OPEN:
            return now + probe_seconds
        return self._open_until if self.state is State.OPEN else 0.0

    def _enter(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._in_a_row = 0
