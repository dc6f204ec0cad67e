"""FastStream: consumer groups of streams, its subscribers that acknowledge; event by event, and in batches."""

from __future__ import annotations

import asyncio
import os

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

from bench.peers.shared import AT_ONCE, DATA, URL, handled

BATCH = 100
broker = RedisBroker(URL, logger=None)
app = FastStream(broker, logger=None)
_is_batch = os.environ.get("HEADGATE_BENCH_MODE") == "batch"
_stream = StreamSub("events", group="bench", consumer="one", last_id=">", batch=_is_batch, max_records=BATCH)


if _is_batch:

    @broker.subscriber(stream=_stream)
    async def handle_batch(events: list[str]) -> None:
        """Does nothing but being counted."""
        handled(len(events))

else:

    @broker.subscriber(stream=_stream)
    async def handle(event: str) -> None:  # noqa: ARG001
        """Does nothing but being counted."""
        handled()


async def _enqueue(events: int) -> None:
    server = await broker.connect()
    await server.xgroup_create("events", "bench", id="0", mkstream=True)
    for start in range(0, events, AT_ONCE):
        async with server.pipeline(transaction=False) as pipeline:
            for _ in range(min(AT_ONCE, events - start)):
                await broker.publish(DATA, stream="events", pipeline=pipeline)
            await pipeline.execute()
    await broker.stop()


def enqueue(events: int) -> None:
    """Fills the stream."""
    asyncio.run(_enqueue(events))
