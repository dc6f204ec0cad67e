"""Workers of an ordered branch that contend for partition 0, moved by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.contract import Ordering
from headgate.streams.owner import PartitionOwner, Wish

if TYPE_CHECKING:
    from headgate.streams.outcome import Delivery
    from streams.desk import Desk

SILENCE_SECONDS = 3.0
CLAIMS = 500  # at once


class Contender:
    """A worker of an ordered branch on partition 0."""

    def __init__(self, canal: Desk, lease: str) -> None:
        self.canal = canal
        self.lease = lease

    async def register(self) -> Contender:
        settings = {"ordering": Ordering.KEY, "claim_after_seconds": SILENCE_SECONDS}
        self.consumer = await self.canal.consumer(self.lease, **settings)
        contract = self.canal.contract(**settings)
        self.owner = PartitionOwner(self.canal.wires, self.canal.keys.partition(0), contract, self.consumer)
        return self

    async def take(self) -> bool:
        return (await self.owner.ask(Wish.TAKE)).owner == self.lease

    async def read(self, count: int = 100) -> list[Delivery]:
        return (await self.consumer.read_watched(count)).deliveries

    async def claim(self) -> list[Delivery]:
        """All there is to claim, some at a time."""
        self.owner.begin_claims()
        claimed: list[Delivery] = []
        while self.owner.has_claims:
            claimed += await self.owner.claim(CLAIMS)
        return claimed

    async def die(self) -> None:
        """As if it had not beaten for a long time."""
        beats = self.canal.keys.partition(0).beats("a")
        await self.canal.command(beats, "ZADD", beats, 1, self.lease)


async def contenders(canal: Desk, *leases: str) -> list[Contender]:
    return [await Contender(canal, lease).register() for lease in leases]


def data(deliveries: list[Delivery]) -> list[object]:
    return [delivery.event.data for delivery in deliveries]
