"""Gates: which lanes of a branch wait. They expire by themselves, so that a dead operator leaves them open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from headgate.event import Lane

if TYPE_CHECKING:
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

_BIT = {Lane.NORMAL: 2, Lane.LOW: 4}  # as scripts/read.lua reads them; High never waits


@dataclass(frozen=True)
class Gate:
    """Open when no lane waits; a waiting lane still gives what is older than `max_delay_seconds`."""

    delayed: frozenset[Lane] = field(default_factory=frozenset)
    max_delay_seconds: int = 900

    OPEN: ClassVar[Gate]

    def encode(self) -> str:
        """The gate key's value: `<bits>:<patience in ms>`."""
        return f"{sum(_BIT[lane] for lane in self.delayed)}:{self.max_delay_seconds * 1000}"


Gate.OPEN = Gate()


async def set_gate(server: Server, keys: PipelineKeys, branch: str, gate: Gate, ttl_seconds: float) -> None:
    """Sets a branch's gate on every partition for `ttl_seconds`; an open gate is no key at all."""
    names = [partition.gate(branch) for partition in keys.all]
    if gate.delayed:
        rest = (gate.encode(), "PX", int(ttl_seconds * 1000))
        await asyncio.gather(*(server.execute(name, "SET", name, *rest) for name in names))
    else:
        await asyncio.gather(*(server.execute(name, "DEL", name) for name in names))
