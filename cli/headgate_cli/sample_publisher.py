"""Publishes sample events as they are made, at a rate if wanted."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from typing import TYPE_CHECKING

from headgate.streams import OnBackpressure, Publisher, RefusedEventError
from headgate_cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.event import NewEvent
    from headgate.streams import PipelineKeys, Server

BATCH = 500
AHEAD = 10_000  # events made before they are published


class SamplePublisher:
    """Making an event may take long (a video), so a thread makes them; what is ready is published together."""

    def __init__(
        self,
        server: Server,
        keys: PipelineKeys,
        events: Iterator[NewEvent],
        rate: float | None,
    ) -> None:
        self._server = server
        self._keys = keys
        self._events = events
        self._rate = rate
        self._ready: queue.Queue[NewEvent | Exception | None] = queue.Queue(AHEAD)
        self.published = 0
        """Events that were added, duplicates left out."""
        self.done = False
        self._made_all = False

    async def run(self) -> None:
        """Publishes all of them, into a pipeline that is there.

        Raises what the maker of the events raises, CommandError for an event that does not conform to the source's
        schema, ServerUnavailableError.
        """
        publisher = await Publisher.open(
            self._server,
            self._keys.namespace,
            self._keys.pipeline,
            on_backpressure=OnBackpressure.WAIT,
        )
        threading.Thread(target=self._make, name="sample events", daemon=True).start()
        started, taken = time.monotonic(), 0
        while not self._made_all:
            room = BATCH
            if self._rate is not None:
                room = min(BATCH, int((time.monotonic() - started) * self._rate) + 1 - taken)
            batch = await asyncio.to_thread(self._take, room) if room > 0 else []
            if not batch:
                await asyncio.sleep(0.01)
                continue
            try:
                receipts = await publisher.publish(batch)
            except RefusedEventError as error:
                raise CommandError(
                    f"sample event {taken + error.place}: {error.reason}", Exit.INVALID
                ) from error
            taken += len(batch)
            self.published += sum(not receipt.duplicate for receipt in receipts)
        self.done = True

    def _make(self) -> None:
        try:
            for event in self._events:
                self._ready.put(event)
            self._ready.put(None)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._ready.put(error)

    def _take(self, room: int) -> list[NewEvent]:
        """What is ready, at most `room`; waits a little for the first."""
        batch: list[NewEvent] = []
        try:
            while len(batch) < room:
                made = self._ready.get(timeout=0.2) if not batch else self._ready.get_nowait()
                if made is None:
                    self._made_all = True
                    break
                if isinstance(made, Exception):
                    raise made
                batch.append(made)
        except queue.Empty:
            pass
        return batch
