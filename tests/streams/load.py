"""A steady load while servers fail over: events published until each is acknowledged, by a publisher that may wait."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from headgate.contract import JoinContract, RetryContract
from headgate.event import NewEvent
from headgate.join import read_records
from headgate.streams import NotReplicatedError, Publisher, Server
from streams.desk import PATIENCE_SECONDS, Desk, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.streams import Replicated
    from streams.workers import Workers

BRANCHES = ("a", "b")
JOIN = JoinContract(branches=BRANCHES, timeout_seconds=3600)
# Nothing here fails by its own fault: whatever ends in a dead letter was lost by us.
RETRY = RetryContract(max_attempts=100, initial_seconds=0.05, factor=1, max_seconds=0.05)
_AT_ONCE = 20
_PAUSE_SECONDS = 0.02


class Load:
    """Publishes batch after batch; a batch that too few replicas have is published again, under the same ids.

    What the server's absence does is the publisher's own to survive: any other error ends the test.
    """

    def __init__(self, canal: Desk, durability: Replicated | None) -> None:
        self.published = 0
        self.repeated = 0
        self._stopping = False
        self._server = Server.connect(canal.server.url)
        self._publisher = Publisher(self._server, canal.keys, durability=durability, retry_seconds=30)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stopping:
            numbers = range(self.published, self.published + _AT_ONCE)
            events = [
                NewEvent(id=f"e{n}", data={"do": "fail-once" if n % 7 == 0 else "return", "result": n})
                for n in numbers
            ]
            while True:
                try:
                    await self._publisher.publish(events)
                    break
                except NotReplicatedError:
                    self.repeated += 1
            self.published += _AT_ONCE
            await asyncio.sleep(_PAUSE_SECONDS)

    async def more(self, count: int = 400) -> None:
        """Returns when so many more are acknowledged."""
        wanted = self.published + count

        async def enough() -> bool:
            if self._task.done():
                self._task.result()
            return self.published >= wanted

        await eventually(enough, f"{count} more events published", 2 * PATIENCE_SECONDS)

    async def stop(self) -> int:
        """Ends with the batch under way; gives the number of events, e0 and so on."""
        self._stopping = True
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._task
        return self.published

    async def aclose(self) -> None:
        """Ends publishing, and closes its connections."""
        self._task.cancel()
        await asyncio.gather(
            self._task, return_exceptions=True
        )  # an error of its own was told by `more` or `stop`
        await self._server.aclose()


@contextlib.asynccontextmanager
async def load(canal: Desk, durability: Replicated | None = None) -> AsyncIterator[Load]:
    """A load that runs until left."""
    running = Load(canal, durability)
    try:
        yield running
    finally:
        await running.aclose()


def start_workers(canal: Desk, workers: Workers, each: int = 1) -> None:
    """Workers of both branches."""
    for branch in BRANCHES * each:
        workers.start(canal.contract(branch, concurrency=4, claim_after_seconds=2, retry=RETRY))


async def check_once(canal: Desk, published: int) -> None:
    """Every event has one whole record, and nothing has two."""
    for branch in BRANCHES:
        figures = await canal.settled(branch, published)
        assert (figures.done, figures.dead) == (published, 0), branch

    async def joined() -> bool:
        return (await canal.measured()).open_joins == 0

    await eventually(joined, "every join's record")
    records = await read_records(canal.server, canal.keys)
    ids = [record.id for record in records]
    assert len(ids) == len(set(ids)), "a record twice"
    assert set(ids) == {f"e{n}" for n in range(published)}, "a record lost"
    assert all(record.results == dict.fromkeys(BRANCHES, int(record.id[1:])) for record in records)
