"""Who may begin when, of one partition of an ordered branch: of each key one at a time, in the order they were read.

The next of a key begins when the one before it is settled on the server, not when its handler returned: an outcome that
is lost with its worker would put them out of order. A key whose event is tried again later is blocked: what comes of it
meanwhile is parked on the server, behind that event, so that only its own key waits for it. Events without a key are in
no order.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

from headgate.streams.outcome import RETRY_STREAM, Delivery

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(enum.Enum):
    """What a delivery that arrives has to do."""

    BEGIN = enum.auto()
    WAIT = enum.auto()
    PARK = enum.auto()


class KeyQueues:
    """One partition's keys, and what waits for each; pure, nothing but bookkeeping."""

    def __init__(self) -> None:
        self._first: dict[str, Delivery] = {}
        self._behind: dict[str, deque[Delivery]] = {}
        self._blocked: set[str] = set()
        # Deliveries whose outcome, that their key has to wait, is on its way to the server.
        self._waiting: dict[str, set[Delivery]] = {}

    def reset(self, blocked: Iterable[str]) -> None:
        """The server says which keys are blocked, as the partition is taken.

        Outcomes from before a lease was lost may be on their way still, and be valid again. A key blocked here and not
        on the server puts itself right: what is parked then goes to the retry stream at once, and unblocks its key.
        """
        self._blocked = {*blocked, *self._waiting}

    def arrive(self, delivery: Delivery) -> Verdict:
        """A delivery was read. One that waits comes out of `settled`; one to be parked is the caller's to settle so."""
        key = delivery.event.key
        if not key:
            return Verdict.BEGIN
        # What comes by the retry stream is what its key waits for.
        if key in self._blocked and delivery.stream != RETRY_STREAM:
            self._waiting.setdefault(key, set()).add(delivery)
            return Verdict.PARK
        if key in self._first:
            self._behind.setdefault(key, deque()).append(delivery)
            return Verdict.WAIT
        self._first[key] = delivery
        return Verdict.BEGIN

    def retried(self, delivery: Delivery) -> list[Delivery]:
        """A delivery is to be tried again later: its key is blocked. Gives what must be parked behind it, in order."""
        key = delivery.event.key
        if not key:
            return []
        self._blocked.add(key)
        behind = list(self._behind.pop(key, ()))
        self._waiting.setdefault(key, set()).update((delivery, *behind))
        return behind

    def settled(self, delivery: Delivery) -> Delivery | None:
        """A delivery is settled, or no longer ours; gives the next of its key, to be begun now."""
        key = delivery.event.key
        if not key:
            return None
        if (waiting := self._waiting.get(key)) is not None:
            waiting.discard(delivery)
            if not waiting:
                del self._waiting[key]
        if self._first.get(key) is not delivery:
            return None
        del self._first[key]
        behind = self._behind.get(key)
        if not behind:
            return None
        following = self._first[key] = behind.popleft()
        if not behind:
            del self._behind[key]
        return following

    def unblocked(self, keys: Iterable[str]) -> None:
        """The server says that these keys wait no more; told before `settled` of what the same settle parked.

        A key of which something was parked since is blocked again by that, or will be.
        """
        self._blocked.difference_update(key for key in keys if key not in self._waiting)

    def drop(self) -> list[Delivery]:
        """Forgets all that waits, and gives it; what was begun stays."""
        dropped = [delivery for behind in self._behind.values() for delivery in behind]
        self._behind.clear()
        return dropped
