"""Tasks are ended for certain, also those that lose a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

from headgate.worker.ending import end


async def deaf(times: int) -> None:
    """Loses so many cancellations, as a client library does in the middle of a broken connection."""
    while times:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        times -= 1
    await asyncio.sleep(60)


async def test_a_task_that_loses_a_cancellation_is_asked_again():
    tasks = [asyncio.create_task(deaf(times)) for times in (0, 1, 3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(3):
        assert await end(tasks) == set()
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_never_heeds_is_given_up_and_named():
    tasks = [asyncio.create_task(deaf(1000)), asyncio.create_task(deaf(0))]
    await asyncio.sleep(0)
    async with asyncio.timeout(3):
        assert await end(tasks, seconds=0.3) == {tasks[0]}
    while not tasks[0].done():
        tasks[0].cancel()
        await asyncio.sleep(0)


async def test_tasks_that_have_ended_are_left_alone():
    task = asyncio.create_task(asyncio.sleep(0, "said"))
    await task
    assert await end([task]) == set()
    assert task.result() == "said"
