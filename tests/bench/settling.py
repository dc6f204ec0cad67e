"""How fast one worker process settles: a stream is loaded, a worker started on it, and the server's counters read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bench.figures import InvalidRunError, warm_part
from bench.workers import running_worker
from headgate.streams import (
    PipelineKeys,
    Publisher,
    ensure_groups,
    measure,
    read_counts,
    remove_pipeline,
)

if TYPE_CHECKING:
    from bench.rounds import Bench
    from bench.work import Work
    from headgate.streams import BranchMeasurement, PipelineMeasurement, Server

NAMESPACE = "bench"
PUBLISH_BATCH = 500
DIFFERENT_EVENTS = 4000  # a multiple of the batch; published over and over, each time with ids of their own
PUBLISH_SECONDS = 120.0
SETTLE_SECONDS = 60.0
SNAPSHOT_SECONDS = 0.02  # each costs the server and this machine what a dozen events do


async def settle(bench: Bench, work: Work, number: int) -> tuple[float, float]:
    """Deliveries a second that one worker process settles, over all branches in turn, and its peak memory in MB.

    Raises InvalidRunError unless each event was settled exactly once in each branch, with all that the work asks for.
    """
    keys = PipelineKeys(NAMESPACE, f"{work.name}-{number}", work.partitions)
    events = int(bench.settings.events * work.share)
    await ensure_groups(bench.server, keys, work.branch_names)
    async with asyncio.timeout(PUBLISH_SECONDS):
        await _publish(bench, work, keys, events)
    timed, seconds, memory = 0, 0.0, 0.0
    for name in work.branch_names:
        contract = work.contract(keys, name, bench.settings.concurrency)
        before = (await snapshot(bench.server, keys, [name])).branches[name]
        if before.settled != 0:
            raise InvalidRunError(f"{keys} {name}: {before.settled} events settled before a worker ran")
        with running_worker(bench.url, contract, bench.folder) as worker:
            seen = await watch(bench.server, keys, name, events)
            memory = max(memory, worker.peak_memory_mb())
        warm, took = warm_part(seen)
        timed, seconds = timed + warm, seconds + took
        after = await snapshot(bench.server, keys, [name])
        check_settled(name, after.branches[name], events, work.filtered(events))
    await _check_work(bench.server, work, keys, events)
    await remove_pipeline(bench.server, keys)
    return timed / seconds, memory


async def _publish(bench: Bench, work: Work, keys: PipelineKeys, events: int) -> None:
    publisher = Publisher(bench.server, keys)
    pool = [work.event(bench.random, number) for number in range(DIFFERENT_EVENTS)]
    for start in range(0, events, PUBLISH_BATCH):
        at = start % DIFFERENT_EVENTS
        await publisher.publish(pool[at : at + PUBLISH_BATCH][: events - start])


async def watch(server: Server, keys: PipelineKeys, branch: str, events: int) -> list[tuple[int, int]]:
    """Watches until `events` are settled; the snapshots on the way: the server's clock in ms, events settled."""
    deadline = time.monotonic() + SETTLE_SECONDS
    seen: list[tuple[int, int]] = []
    while True:
        at = await snapshot(server, keys, [branch])
        settled = at.branches[branch].settled
        seen.append((at.now_ms, settled))
        if settled >= events:
            return seen
        if time.monotonic() > deadline:
            raise InvalidRunError(f"{keys} {branch}: {settled} of {events} settled after {SETTLE_SECONDS} s")
        await asyncio.sleep(SNAPSHOT_SECONDS)


async def snapshot(server: Server, keys: PipelineKeys, branches: list[str]) -> PipelineMeasurement:
    """The server's clock and counters, read at once."""
    [measured] = await measure(server, [(keys, branches)])
    if measured is None:
        raise InvalidRunError(f"{keys}: a group of {', '.join(branches)} is gone")
    return measured


def check_settled(branch: str, at: BranchMeasurement, events: int, filtered: int = 0) -> None:
    """Raises InvalidRunError unless each event was settled exactly once and nothing is left."""
    left = (at.undelivered, at.pending, at.delayed, at.dead, at.retried)
    if (at.done, at.filtered) != (events - filtered, filtered) or left != (0, 0, 0, 0, 0):
        raise InvalidRunError(
            f"{branch}: done {at.done} of {events - filtered}, filtered {at.filtered} of {filtered}; "
            f"undelivered, pending, delayed, dead, retried: {left}"
        )


async def _check_work(server: Server, work: Work, keys: PipelineKeys, events: int) -> None:
    if work.is_joined:
        joined = (await snapshot(server, keys, work.branch_names)).joined
        if joined != events:
            raise InvalidRunError(f"{keys}: {joined} records of {events} events")
    if work.function == "handlers:counted":
        counts = await read_counts(server, keys)
        if counts != {"handled": events}:
            raise InvalidRunError(f"{keys}: {counts} counted of {events} events")
