"""A worker's side of one partition: its lease, what it reads, its heartbeats and its settling.

A consumer's name is the worker's name and a random suffix. The name is its lease: once others may claim from it, it is
never used again, so that one look at the lease fences a whole batch (scripts/register.lua, scripts/settle.lua).
A worker has the same lease on every partition, because one blocking read over them takes one name.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from headgate.contract import Ordering
from headgate.streams.decoder import Decoder
from headgate.streams.errors import LeaseLostError, NotOwnerError, NotProvisionedError
from headgate.streams.outcome import (
    NO_TURN,
    RETRY_STREAM,
    Delivery,
    Outcome,
    Settled,
    Turn,
)
from headgate.streams.script import BEAT, READ, REGISTER, RIPEN, SETTLE
from headgate.streams.settlement import Settlement

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from headgate.contract import BranchContract
    from headgate.streams.keys import PartitionKeys
    from headgate.streams.wire import Wire, Wires

_PAGE = 1000
_RIPENED = 100


class Look(NamedTuple):
    """What a look at a partition found (see `Consumer.read`); `last_ids` of streams 1 to 4, where it was nothing."""

    deliveries: list[Delivery]
    due_ms: int
    held: int
    last_ids: tuple[bytes, ...]


class Consumer:
    """One partition of one branch, as one worker consumes it. Not safe for concurrent reads; settles may overlap."""

    def __init__(self, wires: Wires, keys: PartitionKeys, contract: BranchContract) -> None:
        self.partition = keys.number
        self.lease = ""
        self.decode = Decoder(keys.number)
        # Monotonic seconds until which nobody can have ended the lease, whatever we do not know of.
        self.sure_until = 0.0
        self._wires = wires
        self._contract = contract
        self._group = contract.branch
        branch = contract.branch
        self.streams = (*keys.lanes, keys.retry(branch))
        self._numbers = {stream.encode(): number for number, stream in enumerate(self.streams, 1)}
        self._beats = keys.beats(branch)
        self._read_keys = (
            *self.streams,
            keys.delayed(branch),
            keys.gate(branch),
            self._beats,
            keys.closed(branch),
            keys.owner(branch),
            keys.held(branch),
        )
        self._beat_keys = (*self.streams, self._beats)
        self._ripen_keys = (
            keys.retry(branch),
            keys.delayed(branch),
            keys.closed(branch),
            keys.held(branch),
        )
        self._settle_keys = (
            *self.streams,
            keys.delayed(branch),
            keys.dead(branch),
            keys.stats,
            keys.joins,
            keys.joined,
            keys.join(""),
            self._beats,
            keys.counts,
            keys.values,
            keys.outbox,
            keys.settings,
            keys.dedupe(""),
            keys.blocked(branch),
            keys.parked(branch),
            keys.again(branch),
        )
        self._is_ordered = contract.ordering is Ordering.KEY
        self._settlement = Settlement(contract)

    async def register(self, lease: str) -> None:
        """Takes a new lease; what was held under the last one can no longer be settled.

        Raises NotProvisionedError while the branch has no group, ServerUnavailableError.
        """
        wire, asked = await self._connected(), time.monotonic()
        if not await wire.run(REGISTER, (self.streams[0], self._beats), (self._group, lease)):
            raise NotProvisionedError(f"branch {self._group!r}: no consumer group on {self.streams[0]!r}")
        self.lease = lease
        self.sure_until = asked + self._contract.claim_after_seconds

    async def release(self) -> None:
        """Gives the lease back: what is still held may be claimed by others at once."""
        if self.lease:
            wire = await self._connected()
            await wire.call("ZREM", self._beats, self.lease)
            self.lease = ""

    async def read(self, count: int, turn: Turn = NO_TURN) -> tuple[list[Delivery], int, int]:
        """Reads up to `count` events without waiting, those of `turn` before those of higher lanes.

        Gives the deliveries, the ms until the next retry is due (-1: none), and what waits (bits, see read.lua).
        Raises LeaseLostError, NotProvisionedError, ServerUnavailableError.
        """
        look = await self._look(count, turn, 0)
        return look.deliveries, look.due_ms, look.held

    async def read_watched(self, count: int, turn: Turn = NO_TURN) -> Look:
        """Reads as `read` does, and tells the last ids where there is nothing, for a doorbell to listen from.

        A partition of an ordered branch gives only to its owner: raises NotOwnerError too.
        """
        return await self._look(count, turn, 2 if self._is_ordered else 1)

    async def _look(self, count: int, turn: Turn, mode: int) -> Look:
        wire, lease = await self._connected(), self.lease
        args = (self._group, lease, count, turn.low, mode, turn.normal)
        reply = await wire.run(READ, self._read_keys, args)
        if reply[0] == -1:
            raise LeaseLostError(f"consumer {lease!r} has no lease on partition {self.partition}")
        if reply[0] == -2:
            raise NotOwnerError(f"partition {self.partition} is not consumer {lease!r}'s")
        received = time.monotonic()
        deliveries: list[Delivery] = []
        last_ids: tuple[bytes, ...] = ()
        for at in range(3, len(reply), 2):
            if reply[at] > 0:
                self.decode(reply[at], reply[at + 1], lease, received, deliveries)
            elif reply[at]:
                deadline_ms, entries = reply[at + 1]
                first = len(deliveries)
                self.decode(-reply[at], entries, lease, received, deliveries)
                for delivery in deliveries[first:]:
                    delivery.expired = _expired(delivery, reply[0], deadline_ms)
            else:
                last_ids = tuple(reply[at + 1])
        return Look(deliveries, reply[1], reply[2], last_ids)

    async def read_plain(self, lowest: int, count: int) -> list[Delivery]:
        """Reads up to `count` events from each of: the retry stream, then the lanes down to stream number `lowest`.

        It looks at neither gate, delay set nor lease; the caller has `read` look in time. An entry read by a script
        passes through Lua and costs the server 4.9 microseconds, one read by the command itself 1.5 (measured).
        Raises LeaseLostError where there is none to read under, NotProvisionedError, ServerUnavailableError.
        """
        wire, lease = await self._connected(), self.lease
        if not lease:
            raise LeaseLostError(f"the worker has no lease to read under on partition {self.partition}")
        lanes = 0 if lowest == RETRY_STREAM else lowest
        streams = (self.streams[RETRY_STREAM - 1], *self.streams[:lanes])
        command = ("XREADGROUP", "GROUP", self._group, lease, "COUNT", count, "STREAMS")
        reply = await wire.call(*command, *streams, *[">"] * len(streams))
        received = time.monotonic()
        deliveries: list[Delivery] = []
        for stream, entries in reply or ():
            self.decode(self._numbers[stream], entries, lease, received, deliveries)
        return deliveries

    async def ripen(self) -> int:
        """Moves retries that are due to the retry stream; gives the ms until the next one is (-1: none).

        Raises ServerUnavailableError.
        """
        wire = await self._connected()
        due_ms: int = await wire.run(RIPEN, self._ripen_keys, (_RIPENED,))
        return due_ms

    async def recover(self, known: Container[tuple[int, bytes]]) -> list[Delivery]:
        """Deliveries of this lease that are not `known` by (stream, entry): their reply was lost with a connection.

        Looking is no delivery: reading the consumer's history by XREADGROUP would count one for each event it holds,
        and a worker that recovers often would leave events that look as if they had ended worker after worker.
        """
        wire, lease = await self._connected(), self.lease
        received = time.monotonic()
        found: list[Delivery] = []
        for number, stream in enumerate(self.streams, 1):
            start: bytes = b"-"
            while True:
                held = await wire.call("XPENDING", stream, self._group, start, "+", _PAGE, lease)
                lost = [(entry, count) for entry, _, _, count in held if (number, entry) not in known]
                replies = await asyncio.gather(
                    *(wire.call("XRANGE", stream, entry, entry) for entry, _ in lost)
                )
                for (entry, count), entries in zip(lost, replies, strict=True):
                    if not entries:  # trimmed by the retention's cap, and counted there (sweep.lua)
                        await wire.call("XACK", stream, self._group, entry)
                    self.decode(number, entries, lease, received, found, deliveries_before=count - 1)
                if len(held) < _PAGE:
                    break
                start = b"(" + held[-1][0]
        return found

    async def beat(self, claims: int) -> list[Delivery]:
        """One heartbeat; gives up to `claims` events claimed from dead workers. Raises LeaseLostError."""
        wire, lease, asked = await self._connected(), self.lease, time.monotonic()
        silence_ms = int(self._contract.claim_after_seconds * 1000)
        reply = await wire.run(BEAT, self._beat_keys, (self._group, lease, silence_ms, claims))
        if reply[0] < 0:
            raise LeaseLostError(f"consumer {lease!r} was silent for longer than {silence_ms} ms")
        if lease == self.lease:
            self.sure_until = asked + self._contract.claim_after_seconds
        received = time.monotonic()
        deliveries: list[Delivery] = []
        for at in range(1, len(reply), 3):
            before = reply[at + 1] - 1
            self.decode(reply[at], [reply[at + 2]], lease, received, deliveries, deliveries_before=before)
        return deliveries

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Settles deliveries of the current lease in one script; its count is of those that were still pending.

        Raises LeaseLostError when none may be settled by us any more, ServerUnavailableError (then ask again: what
        was settled already changes nothing).
        """
        args = self._settlement.arguments(self.lease, outcomes)
        wire = await self._connected()
        reply = await wire.run(SETTLE, self._settle_keys, args)
        if reply[0] < 0:
            raise LeaseLostError(f"consumer {self.lease!r} lost its lease; its work is another's now")
        return Settled(reply[0], reply[1], tuple(key.decode() for key in reply[2:]))

    async def _connected(self) -> Wire:
        return await self._wires.get(self.streams[0])


def _expired(delivery: Delivery, now_ms: int, deadline_ms: int) -> str:
    age_seconds = (now_ms - int(delivery.entry.split(b"-")[0])) / 1000
    return (
        f"given up in lane {delivery.event.lane}, which backpressure delayed, at an age of {age_seconds:.0f} s:"
        f" backpressure.deadlineSeconds is {deadline_ms // 1000}"
    )
