"""The rate limit of a branch, over all its workers: tokens taken before events are read (scripts/rate.lua)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.streams.script import RATE

if TYPE_CHECKING:
    from headgate.contract import BranchContract
    from headgate.streams.keys import PartitionKeys
    from headgate.streams.wire import Wires

_BURST_SECONDS = 0.1


class Grant(NamedTuple):
    """Tokens granted, and the ms until there is one more."""

    tokens: int
    wait_ms: int


def burst_of(rate: float) -> float:
    """How many events may come at once: what the limit lets through in a tenth of a second, and at least one."""
    return max(1.0, rate * _BURST_SECONDS)


class RateLimit:
    """A token bucket on partition 0, filled with `rate_limit` tokens a second by the server's clock."""

    def __init__(self, wires: Wires, keys: PartitionKeys, contract: BranchContract) -> None:
        self._wires = wires
        self._key = keys.rate(contract.branch)
        self._args = (repr(contract.rate_limit), repr(burst_of(contract.rate_limit)))

    async def take(self, wanted: int) -> Grant:
        """Takes up to `wanted` tokens without waiting. Raises ServerUnavailableError."""
        wire = await self._wires.get(self._key)
        return Grant(*await wire.run(RATE, (self._key,), (*self._args, wanted)))

    async def give(self, unused: int) -> None:
        """Gives tokens back that nothing was read for. Raises ServerUnavailableError."""
        if unused > 0:
            await self.take(-unused)
