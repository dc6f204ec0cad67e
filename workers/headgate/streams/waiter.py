"""The blocking read of an idle worker: one call over everything it may read, answered by the next event.

It is XREADGROUP itself and not a doorbell, so that of many idle workers exactly one wakes, and with the event in hand.
On a cluster each partition has a waiter of its own, because one call cannot span slots.

Where only a script may read (partitions that change hands, a rate limit) it is a doorbell after all and takes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headgate.streams.errors import LeaseLostError, ServerUnavailableError
from headgate.streams.outcome import RETRY_STREAM, Delivery
from headgate.streams.wire import Wire, open_wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.streams.consumer import Consumer
    from headgate.streams.server import Server


class Waiter:
    """Waits for the next events of some partitions of one branch, on a connection of its own."""

    def __init__(self, server: Server, consumers: Sequence[Consumer], group: str) -> None:
        self._server = server
        self._group = group
        self._places = {
            stream.encode(): (consumer, number)
            for consumer in consumers
            for number, stream in enumerate(consumer.streams, 1)
        }
        self._consumers = consumers
        self._wire: Wire | None = None
        self._since = 0.0
        self._woken = False

    async def wait(self, count: int, block_ms: int, held: int) -> list[tuple[Consumer, list[Delivery]]]:
        """Waits up to `block_ms` for up to `count` events a stream, but for the lanes in `held` (bits 2 normal, 4 low).

        Raises NotProvisionedError when a group is gone, ServerUnavailableError.
        """
        wire = await self._connected()
        streams: list[str | bytes | int] = [
            stream
            for stream, (_, number) in self._places.items()
            if number == RETRY_STREAM or not held & (0, 0, 2, 4)[number]
        ]
        lease = self._consumers[0].lease
        if not lease:
            raise LeaseLostError("the worker has no lease to read under")
        command: list[str | bytes | int] = [
            "XREADGROUP",
            "GROUP",
            self._group,
            lease,
            "COUNT",
            count,
            "BLOCK",
            max(1, block_ms),
            "STREAMS",
        ]
        self._since = time.monotonic()
        reply = await wire.call(*command, *streams, *[">"] * len(streams))
        received = time.monotonic()
        self._since = 0.0
        found: list[tuple[Consumer, list[Delivery]]] = []
        for stream, entries in reply or ():
            consumer, number = self._places[stream]
            deliveries: list[Delivery] = []
            consumer.decode(number, entries, lease, received, deliveries)
            found.append((consumer, deliveries))
        return found

    async def listen(self, last_ids: Mapping[str, bytes], block_ms: int) -> None:
        """Waits up to `block_ms` for anything newer than `last_ids` (stream to entry id) or for `wake`; takes nothing.

        Raises ServerUnavailableError.
        """
        wire = await self._connected()
        self._woken = False
        self._since = time.monotonic()
        try:
            await wire.call(
                "XREAD", "COUNT", 1, "BLOCK", max(1, block_ms), "STREAMS", *last_ids, *last_ids.values()
            )
        except ServerUnavailableError:
            if not self._woken:
                raise
        self._since = 0.0

    def wake(self) -> None:
        """Ends `listen` early: there is more to listen to. Its connection goes, blocked as it is."""
        if self._since:
            self._woken = True
            self.close()

    async def _connected(self) -> Wire:
        if self._wire is None or not self._wire.is_open:
            self._since = 0.0
            self._wire = await open_wire(self._server, self._consumers[0].streams[0])
        return self._wire

    def close_if_silent(self, seconds: float) -> None:
        """Gives up a wait that has been unanswered for so long that its connection must be dead."""
        if self._since and time.monotonic() - self._since > seconds:
            self.close()

    def close(self) -> None:
        """Closes the connection, and with it a wait under way."""
        if self._wire is not None:
            self._wire.close()
