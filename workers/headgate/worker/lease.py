"""A worker's lease: one name on every partition, taken where there is none, forgotten when it is over."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams.consumer import Consumer
    from headgate.worker.metrics import WorkerMetrics

log = structlog.get_logger("headgate.worker")


class Lease:
    """The lease of all of a worker's consumers."""

    def __init__(self, worker: str, consumers: Sequence[Consumer], metrics: WorkerMetrics) -> None:
        self.answered_at = time.monotonic()
        """When the server last answered a heartbeat or an enlisting (monotonic seconds), whatever it said."""
        self._worker = worker
        self._consumers = consumers
        self._metrics = metrics
        self._taking = asyncio.Lock()

    @property
    def name(self) -> str:
        """The consumer name it was taken under; empty where there is none."""
        return self._consumers[0].lease

    def answered(self) -> None:
        """The server answered, whatever it said."""
        self.answered_at = time.monotonic()

    async def take(self) -> bool:
        """Takes a lease where there is none; False when there is one already. Raises StreamsError."""
        async with self._taking:
            if all(consumer.lease for consumer in self._consumers):
                return False
            name = f"{self._worker}.{secrets.token_hex(3)}"
            for consumer in self._consumers:
                await consumer.register(name)
            self.answered()
            log.info("worker.enlisted", consumer=name)
            return True

    def forget(self) -> None:
        """It is over: what is held under it can no longer be settled."""
        self._metrics.leases_lost += any(consumer.lease for consumer in self._consumers)
        for consumer in self._consumers:
            consumer.lease = ""

    async def release(self) -> None:
        """Gives it back, so that others claim at once what is still held. Raises StreamsError."""
        for consumer in self._consumers:
            await consumer.release()
