"""A worker's part in relaying: at once after a settle that filled an outbox, and now and then for others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headgate.relay import Relay
from headgate.streams.errors import StreamsError

if TYPE_CHECKING:
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

log = structlog.get_logger("headgate.worker")
_RETRY_SECONDS = 1.0
_AGAIN_SECONDS = 0.1  # to an outbox that another worker is just at


class Relayer:
    """Relays whenever it is rung, one relay at a time."""

    def __init__(self, server: Server, keys: PipelineKeys) -> None:
        self._relay = Relay(server, keys)
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Says that there may be something in the outboxes."""
        self._rung.set()

    async def run(self) -> None:
        """Relays until it is cancelled; nothing the server does ends it."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            try:
                await self._relay.run()
                if self._relay.left_some:
                    await asyncio.sleep(_AGAIN_SECONDS)
                    self._rung.set()
            except (StreamsError, OSError) as error:
                log.warning("relay.waiting", error=str(error), again_in_seconds=_RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)
                self._rung.set()
