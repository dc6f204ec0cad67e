"""Backpressure as the server holds it: which lanes of a branch wait, and which the pipeline's publishers are refused.

Both expire by themselves, so that a dead operator leaves everything open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from headgate.event import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

_BIT = {
    Lane.NORMAL: 2,
    Lane.LOW: 4,
}  # as scripts/read.lua and scripts/publish.lua read them; High always flows


@dataclass(frozen=True)
class Gate:
    """Open when no lane waits; a waiting lane still gives what is older than `max_delay_seconds`.

    What gets older than `deadline_seconds` while its lane waits is given to workers to be dropped; None: nothing is.
    """

    delayed: frozenset[Lane] = field(default_factory=frozenset)
    max_delay_seconds: int = 900
    deadline_seconds: int | None = None

    OPEN: ClassVar[Gate]

    def encode(self) -> str:
        """The gate key's value: `<bits>:<patience in ms>`, and `:<deadline in ms>` where there is one."""
        deadline = "" if self.deadline_seconds is None else f":{self.deadline_seconds * 1000}"
        return f"{_bits(self.delayed)}:{self.max_delay_seconds * 1000}{deadline}"

    @staticmethod
    def lanes(value: str) -> frozenset[Lane]:
        """The lanes that wait by what `encode` wrote; none by anything else, which a server may hold too."""
        bits = value.partition(":")[0]
        return _lanes(int(bits)) if bits.isdecimal() else frozenset()


Gate.OPEN = Gate()


@dataclass(frozen=True)
class Rejection:
    """Which lanes' events publishers are refused, the level that says so, and the seconds until it may be over."""

    lanes: frozenset[Lane]
    level: str
    retry_after_seconds: int

    def encode(self) -> str:
        """The rejection key's value: `<bits>:<seconds>:<level>`."""
        return f"{_bits(self.lanes)}:{self.retry_after_seconds}:{self.level}"

    @staticmethod
    def decode(value: str) -> Rejection:
        """What `encode` wrote."""
        bits, seconds, level = value.split(":", 2)
        return Rejection(_lanes(int(bits)), level, int(seconds))

    @staticmethod
    def union(rejections: Sequence[Rejection]) -> Rejection:
        """All of them at once, under the level of the one that refuses most; `rejections` must not be empty."""
        most = max(rejections, key=lambda each: len(each.lanes))
        return Rejection(
            lanes=frozenset[Lane]().union(*(each.lanes for each in rejections)),
            level=most.level,
            retry_after_seconds=max(each.retry_after_seconds for each in rejections),
        )


async def set_gate(server: Server, keys: PipelineKeys, branch: str, gate: Gate, ttl_seconds: float) -> None:
    """Sets a branch's gate on every partition for `ttl_seconds`; an open gate is no key at all."""
    names = [partition.gate(branch) for partition in keys.all]
    await _set(server, names, gate.encode() if gate.delayed else None, ttl_seconds)


async def set_rejection(
    server: Server, keys: PipelineKeys, rejection: Rejection | None, ttl_seconds: float
) -> None:
    """Says on every partition for `ttl_seconds` what publishers are refused; None lifts it."""
    names = [partition.rejection for partition in keys.all]
    await _set(server, names, None if rejection is None else rejection.encode(), ttl_seconds)


async def _set(server: Server, names: Sequence[str], value: str | None, ttl_seconds: float) -> None:
    if value is None:
        await asyncio.gather(*(server.execute(name, "DEL", name) for name in names))
    else:
        rest = (value, "PX", int(ttl_seconds * 1000))
        await asyncio.gather(*(server.execute(name, "SET", name, *rest) for name in names))


def _bits(lanes: Iterable[Lane]) -> int:
    return sum(_BIT[lane] for lane in lanes)


def _lanes(bits: int) -> frozenset[Lane]:
    return frozenset(lane for lane, bit in _BIT.items() if bits & bit)
