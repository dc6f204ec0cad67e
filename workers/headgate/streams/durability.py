"""Publishing that waits for replicas: the script calls and WAIT on one connection, because WAIT counts only its writes.

What WAIT says is how many replicas have what this connection wrote, not that they keep it: docs/guides/servers.md says
what a failover may still lose.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.streams.clients import SOCKET_SECONDS
from headgate.streams.errors import ServerUnavailableError, StreamsError
from headgate.streams.server import places_by_slot
from headgate.streams.wire import Wire, open_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headgate.streams.server import Call, Server


class Replicated(msgspec.Struct, frozen=True):
    """A publish returns when so many replicas have it, and fails when they do not within the time."""

    replicas: int = 1
    timeout_seconds: float = 1


class ReplicatedCalls:
    """Runs script calls and waits for replicas; keeps idle connections, which end with the server's others."""

    def __init__(self, server: Server, wanted: Replicated) -> None:
        if wanted.replicas < 1 or wanted.timeout_seconds <= 0:
            raise ValueError(f"{wanted}: replicas must be at least 1 and timeout_seconds more than 0")
        self._server = server
        self._wanted = wanted
        self._idle: dict[tuple[str, int], list[Wire]] = {}
        server.at_close(self.close)

    async def run_all(self, calls: Sequence[Call]) -> list[tuple[Any, int]]:
        """For each call its reply, or what was raised, and how many replicas are known to have what it wrote."""
        found: list[tuple[Any, int]] = [(None, 0)] * len(calls)
        nodes: dict[tuple[str, int], list[int]] = {}
        for place, call in enumerate(calls):
            nodes.setdefault(await self._server.address(call.keys[0]), []).append(place)

        async def run(address: tuple[str, int], places: list[int]) -> None:
            try:
                replies, replicas = await self._run_on_node(address, [calls[place] for place in places])
            except StreamsError as error:
                replies, replicas = [error] * len(places), 0
            for place, reply in zip(places, replies, strict=True):
                found[place] = reply, replicas

        await asyncio.gather(*(run(address, places) for address, places in nodes.items()))
        return found

    def close(self) -> None:
        """Closes idle connections."""
        for wires in self._idle.values():
            for wire in wires:
                wire.close()
        self._idle.clear()

    async def _run_on_node(self, address: tuple[str, int], calls: Sequence[Call]) -> tuple[list[Any], int]:
        replies: list[Any] = [None] * len(calls)
        wanted = self._wanted
        timeout_ms = max(1, int(wanted.timeout_seconds * 1000))  # 0 would be for ever
        async with self._wire(address, calls[0].keys[0]) as wire:

            async def run(of_one_slot: list[int]) -> None:
                for place in of_one_slot:
                    call = calls[place]
                    try:
                        replies[place] = await wire.run(call.script, call.keys, call.args)
                    except StreamsError as error:
                        replies[place] = error

            await asyncio.gather(*(run(of_one_slot) for of_one_slot in places_by_slot(calls)))
            return replies, int(await wire.call("WAIT", wanted.replicas, timeout_ms))

    @contextlib.asynccontextmanager
    async def _wire(self, address: tuple[str, int], key: str) -> AsyncIterator[Wire]:
        """A connection to a node that nobody else uses meanwhile; closed when it was not read to the end."""
        idle = self._idle.setdefault(address, [])
        while idle and not idle[-1].is_open:
            idle.pop()
        wire = idle.pop() if idle else await open_wire(self._server, key)
        whole = False
        try:
            async with asyncio.timeout(SOCKET_SECONDS + self._wanted.timeout_seconds):
                yield wire
            whole = True
        except TimeoutError as error:
            self._server.doubt()
            raise ServerUnavailableError(f"Redis server {self._server.name}: no answer") from error
        finally:
            if whole and wire.is_open:
                self._idle.setdefault(address, []).append(wire)
            else:
                wire.close()
