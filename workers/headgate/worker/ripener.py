"""Retries begin when they are due, also while their worker waits for events.

A blocking read knows nothing of a retry that is put off while it waits, and servers end such reads only every tenth of
a second. So the worker keeps the time itself: what is due goes to the retry stream, and that ends the blocking read.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from headgate.streams.errors import StreamsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams.consumer import Consumer

log = structlog.get_logger("headgate.worker")
_LEAST_SECONDS = 0.02  # between two looks at a partition: a stream of retries is taken in steps
_AGAIN_SECONDS = 1.0


class Ripener:
    """Knows when the next retry of each partition is due, as far as this worker has heard."""

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._consumers = consumers
        self._due = [time.monotonic()] * len(consumers)
        self._sooner = asyncio.Event()

    def expect(self, partition: int, delay_ms: int) -> None:
        """Says that a retry of a partition is due in so many ms."""
        due = time.monotonic() + delay_ms / 1000
        if due < self._due[partition]:
            self._due[partition] = due
            self._sooner.set()

    async def run(self) -> None:
        """Moves what is due until it is cancelled; nothing the server does ends it."""
        while True:
            self._sooner.clear()
            wait = min(self._due) - time.monotonic()
            if wait > 0:
                try:
                    async with asyncio.timeout(None if wait == float("inf") else wait):
                        await self._sooner.wait()
                except TimeoutError:
                    pass
                else:
                    continue
            for partition, consumer in enumerate(self._consumers):
                if self._due[partition] <= time.monotonic():
                    await self._ripen(partition, consumer)

    async def _ripen(self, partition: int, consumer: Consumer) -> None:
        self._due[partition] = float("inf")
        try:
            due_ms = await consumer.ripen()
        except (StreamsError, OSError) as error:
            log.debug("ripen.waiting", error=str(error), again_in_seconds=_AGAIN_SECONDS)
            self.expect(partition, int(_AGAIN_SECONDS * 1000))
            return
        if due_ms >= 0:
            self.expect(partition, max(due_ms, int(_LEAST_SECONDS * 1000)))
