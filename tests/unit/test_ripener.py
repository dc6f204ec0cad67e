"""Retries begin when they are due, also while their worker waits for events."""

from __future__ import annotations

import asyncio
import contextlib
import time

from headgate.streams.errors import ServerUnavailableError
from headgate.worker.ripener import Ripener


class Partition:
    """A consumer that writes down when it was asked, and says what a test gave it to say."""

    def __init__(self, *replies: int | Exception) -> None:
        self.asked: list[float] = []
        self._replies = list(replies)

    async def ripen(self) -> int:
        self.asked.append(time.monotonic())
        reply = self._replies.pop(0) if self._replies else -1
        if isinstance(reply, Exception):
            raise reply
        return reply


@contextlib.asynccontextmanager
async def running(*partitions: Partition):
    ripener = Ripener(partitions)
    task = asyncio.create_task(ripener.run())
    await asked(partitions[-1], 1)
    yield ripener
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def asked(partition: Partition, times: int) -> None:
    async with asyncio.timeout(30):
        while len(partition.asked) < times:  # noqa: ASYNC110 - what is tested keeps the time
            await asyncio.sleep(0.001)


async def test_a_retry_is_looked_for_when_it_is_due_and_not_before():
    first, second = Partition(), Partition()
    async with running(first, second) as ripener:
        began = time.monotonic()
        ripener.expect(1, 60_000)
        ripener.expect(1, 80)
        await asked(second, 2)
        assert second.asked[1] - began >= 0.08
        assert len(first.asked) == 1


async def test_one_that_is_due_sooner_does_not_wait_for_another():
    only = Partition(60_000)
    async with running(only) as ripener:
        ripener.expect(0, 0)
        await asked(only, 2)


async def test_what_the_server_says_is_due_next_is_looked_for_without_being_told():
    only = Partition(30, 0, 0)
    async with running(only):
        await asked(only, 4)
        waits = [after - before for before, after in zip(only.asked, only.asked[1:], strict=False)]
        assert waits[0] >= 0.03
        assert min(waits) >= 0.02


async def test_a_server_that_is_away_is_asked_again():
    only = Partition(ServerUnavailableError("away"))
    async with running(only):
        await asked(only, 2)
        assert only.asked[1] - only.asked[0] >= 1
