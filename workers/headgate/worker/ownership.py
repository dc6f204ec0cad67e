"""Which partitions of an ordered branch this worker has: as many as every other, taken and given up without a leader.

All workers see the same members in the same order, so each knows how many partitions are its own; which ones is a
matter of who comes first. One that has too many stops reading some, lets what it has begun of them end, and gives them
up; one that has too few takes what nobody has. A worker that died is no member once its lease is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from headgate.streams.errors import LeaseLostError, NotProvisionedError, StreamsError
from headgate.streams.owner import PartitionOwner, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

log = structlog.get_logger("headgate.worker")
_LOOK_SECONDS = 0.5
_SILENT_SECONDS = 10.0


def quota(partitions: int, members: Collection[str], me: str) -> int:
    """How many of the partitions are `me`'s among the living members; those of all together are all."""
    if me not in members:
        return 0
    whole, rest = divmod(partitions, len(members))
    return whole + (sorted(members).index(me) < rest)


class Work(Protocol):
    """What is done on the partitions; told of those taken and dropped."""

    def took(self, partition: int, blocked: Sequence[str]) -> None:
        """A partition may be read from now on, once what is pending on it is claimed."""

    def drop(self, partition: int) -> None:
        """Nothing more of a partition is to be begun."""

    def holding(self, partition: int) -> int:
        """How many deliveries of a partition are neither settled nor dropped."""


class Ownership:
    """Keeps this worker's share of the partitions; `tokens` has those that may be read, with their fencing tokens."""

    def __init__(
        self,
        owners: Sequence[PartitionOwner],
        claim_after_seconds: float,
        work: Work,
        lose: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.tokens: dict[int, int] = {}
        self.giving: set[int] = set()
        self._owners = owners
        self._every = min(claim_after_seconds / 3, _LOOK_SECONDS)
        self._work = work
        self._lose = lose
        self._changed = changed
        self._rung = asyncio.Event()
        self._leaving = False

    def ring(self) -> None:
        """Has it look at once."""
        self._rung.set()

    def forget(self) -> None:
        """The lease is lost, and with it every partition."""
        self.tokens.clear()
        self.giving.clear()

    def leave(self) -> None:
        """Gives up everything as soon as what was begun of it is settled, and takes no more."""
        self._leaving = True
        self.ring()

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    await self.look()
            except (LeaseLostError, NotProvisionedError) as error:
                log.warning("ownership.lost", error=str(error))
                self._lose()
            except (StreamsError, OSError, TimeoutError) as error:
                log.warning("ownership.unavailable", error=str(error) or "timed out")
            try:
                async with asyncio.timeout(self._every):
                    await self._rung.wait()
            except TimeoutError:
                pass
            self._rung.clear()

    async def look(self) -> None:
        """One look at all partitions, and what follows from it. Raises StreamsError."""
        lease = self._owners[0].consumer.lease
        if not all(owner.consumer.lease == lease != "" for owner in self._owners):
            return
        wish = Wish.LEAVE if self._leaving else Wish.LOOK
        views = await asyncio.gather(*(owner.ask(wish) for owner in self._owners))
        if self._owners[0].consumer.lease != lease:
            return
        for partition, view in enumerate(views):
            if partition in self.tokens and (view.owner, view.token) != (lease, self.tokens[partition]):
                log.warning("partition.lost", partition=partition, owner=view.owner)
                self._stop(partition)
        members = {member for view in views for member in view.members}
        share = quota(len(self._owners), members, lease)
        # What holds least is given up soonest.
        surplus = sorted(self.tokens, key=self._work.holding)[: max(0, len(self.tokens) - share)]
        for partition in surplus:
            self._stop(partition)
            self.giving.add(partition)
        given = await self._give()
        place = sorted(members).index(lease) * len(views) // len(members) if lease in members else 0
        for step in range(len(views)):
            partition = (place + step) % len(views)
            if partition in self.tokens or partition in self.giving or partition in given:
                continue
            if len(self.tokens) < share and views[partition].owner in ("", lease):
                await self._take(self._owners[partition])
            elif views[partition].owner == lease:
                # Taking it was broken off, and now there is no room for it.
                self.giving.add(partition)

    async def finish(self) -> None:
        """Gives up what nothing is held of any more. Raises StreamsError."""
        for partition in list(self.tokens):
            self._stop(partition)
            self.giving.add(partition)
        await self._give()

    def _stop(self, partition: int) -> None:
        del self.tokens[partition]
        self._work.drop(partition)

    async def _give(self) -> set[int]:
        given: set[int] = set()
        for partition in sorted(self.giving):
            if not self._work.holding(partition):
                await self._owners[partition].ask(Wish.GIVE)
                self.giving.discard(partition)
                given.add(partition)
                log.info("partition.given", partition=partition)
        return given

    async def _take(self, owner: PartitionOwner) -> None:
        partition, lease = owner.consumer.partition, owner.consumer.lease
        view = await owner.ask(Wish.TAKE)
        if view.owner != lease:
            return
        blocked = await owner.blocked()
        if owner.consumer.lease != lease:
            return
        owner.begin_claims()
        self.tokens[partition] = view.token
        self._work.took(partition, blocked)
        log.info("partition.taken", partition=partition, token=view.token)
        self._changed()
