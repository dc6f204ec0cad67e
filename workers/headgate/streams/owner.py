"""Ownership of one partition of an ordered branch: taken, claimed for, given up (scripts/own.lua, claim.lua)."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, NamedTuple

from headgate.streams.errors import LeaseLostError, NotOwnerError
from headgate.streams.script import CLAIM, OWN, UNPARK
from headgate.streams.server import Call

if TYPE_CHECKING:
    from headgate.contract import BranchContract
    from headgate.streams.consumer import Consumer
    from headgate.streams.keys import PartitionKeys, PipelineKeys
    from headgate.streams.outcome import Delivery
    from headgate.streams.server import Server
    from headgate.streams.wire import Wires

_UNPARKED_AT_ONCE = 500


class Wish(enum.StrEnum):
    """What a consumer asks of a partition; the values are those of own.lua."""

    LOOK = "look"
    TAKE = "take"
    GIVE = "give"
    LEAVE = "leave"


class View(NamedTuple):
    """Who has a partition, and who may have it. `owner` is empty when nobody does; `members` are the living workers."""

    owner: str
    token: int
    members: tuple[str, ...]


class PartitionOwner:
    """One partition as one worker of an ordered branch may own it, under the lease of its consumer."""

    def __init__(
        self, wires: Wires, keys: PartitionKeys, contract: BranchContract, consumer: Consumer
    ) -> None:
        self.consumer = consumer
        self._wires = wires
        self._group = contract.branch
        self._silence_ms = int(contract.claim_after_seconds * 1000)
        beats, owner = keys.beats(contract.branch), keys.owner(contract.branch)
        self._own_keys = (beats, owner)
        self._claim_keys = (*consumer.streams, beats, owner)
        self._blocked = keys.blocked(contract.branch)
        self._claimed_to: tuple[int, bytes] = (-1, b"")

    async def ask(self, wish: Wish) -> View:
        """Looks at the partition, after doing what is wished for, if that can be done.

        Raises LeaseLostError, ServerUnavailableError.
        """
        lease = self.consumer.lease
        wire = await self._wires.get(self._blocked)
        reply = await wire.run(OWN, self._own_keys, (lease, self._silence_ms, wish.value))
        if reply[0] == -1:
            raise LeaseLostError(f"consumer {lease!r} has no lease on partition {self.consumer.partition}")
        owner, token, *members = (part.decode() for part in reply)
        return View(owner, int(token), tuple(members))

    def begin_claims(self) -> None:
        """The partition was taken: what is pending on it has to be claimed, from the first on."""
        self._claimed_to = (0, b"")

    @property
    def has_claims(self) -> bool:
        """Whether there may be more to claim."""
        return self._claimed_to[0] >= 0

    async def claim(self, count: int) -> list[Delivery]:
        """Claims up to `count` more of what is pending on the partition, each stream's in order.

        A claim whose reply was lost is made again, and counts no delivery twice. Raises NotOwnerError, LeaseLostError,
        NotProvisionedError, ServerUnavailableError.
        """
        lease = self.consumer.lease
        claimed: list[Delivery] = []
        wire = await self._wires.get(self._blocked)
        reply = await wire.run(CLAIM, self._claim_keys, (self._group, lease, count, *self._claimed_to))
        if reply == [-1]:
            raise LeaseLostError(f"consumer {lease!r} has no lease on partition {self.consumer.partition}")
        if reply == [-2]:
            raise NotOwnerError(f"partition {self.consumer.partition} is not consumer {lease!r}'s")
        received = time.monotonic()
        self._claimed_to = reply[0], reply[1]
        for at in range(2, len(reply), 3):
            before = reply[at + 1] - 1
            self.consumer.decode(
                reply[at], [reply[at + 2]], lease, received, claimed, deliveries_before=before
            )
        return claimed

    async def blocked(self) -> list[str]:
        """The keys whose oldest event waits for its next attempt. Raises ServerUnavailableError."""
        wire = await self._wires.get(self._blocked)
        return [key.decode(errors="replace") for key in await wire.call("HKEYS", self._blocked)]


async def unpark(server: Server, keys: PipelineKeys, branch: str) -> int:
    """Sets free what a branch parked while it was ordered; gives the number of events. Raises ServerUnavailableError.

    For workers of a branch that is ordered no longer: what is parked then waits for nobody who would release it.
    """
    calls = [
        Call(
            UNPARK,
            (
                partition.retry(branch),
                partition.stats,
                partition.blocked(branch),
                partition.parked(branch),
                partition.owner(branch),
            ),
            (branch, _UNPARKED_AT_ONCE),
        )
        for partition in keys.all
    ]
    freed = 0
    for reply in await server.run_all(calls):
        if isinstance(reply, Exception):
            raise reply
        freed += reply
    return freed
