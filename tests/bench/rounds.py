"""One round of the benchmark: the C client, one worker process with one and five branches, and latency."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.workers import running_worker
from bench.workload import random_event
from headgate.contract import BranchContract
from headgate.streams import PipelineKeys, Publisher, ensure_groups, measure, remove_pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    from bench.raw import RawClient
    from headgate.streams import BranchMeasurement, Server

NAMESPACE = "bench"
PUBLISH_BATCH = 500
SATURATED_DEPTH = 4
SNAPSHOT_SECONDS = 0.05  # each costs the server and this machine what a dozen events do
SETTLE_SECONDS = 60.0
WARM_UP_SHARE = 0.05
LATENCY_WARM_UP_SECONDS = 1.0


class InvalidRunError(RuntimeError):
    """A round's figures mean nothing: says what was lost, doubled or late."""


@dataclass(frozen=True)
class Settings:
    """How much a run measures; `rate` in events a second."""

    server: str
    rounds: int
    events: int
    concurrency: int
    rate: int
    latency_seconds: float
    seed: int


@dataclass(frozen=True)
class Round:
    """One round's figures: deliveries a second, and milliseconds."""

    raw: float
    raw_fanout5: float
    raw_saturated: float
    worker: float
    worker_fanout5: float
    latency_p50_ms: float
    latency_p99_ms: float
    publisher_late_ms: float


@dataclass(frozen=True)
class Bench:
    """Where and with how much one run measures."""

    url: str
    server: Server
    raw: RawClient
    folder: Path
    settings: Settings
    random: Random

    async def round(self, number: int) -> Round:
        """Measures everything once; raises InvalidRunError."""
        port = int(self.url.rsplit(":", 1)[1])
        events = self.settings.events

        def say(text: str) -> None:
            print(f"round {number + 1}: {text}", flush=True)

        # A raw run lasts a fraction of a second: three of them, around the workers', bear with a busy machine.
        raws = [self.raw.deliveries_per_second(port, events, 1, 1)]
        worker = await self.settle_rate(f"one-{number}", branches=1)
        raws.append(self.raw.deliveries_per_second(port, events, 1, 1))
        raw5 = self.raw.deliveries_per_second(port, events, 5, 1)
        worker5 = await self.settle_rate(f"five-{number}", branches=5)
        raws.append(self.raw.deliveries_per_second(port, events, 1, 1))
        raw = statistics.median(raws)
        saturated = self.raw.deliveries_per_second(port, events, 1, SATURATED_DEPTH)
        say(f"raw C client {raw:,.0f} events/s, 5 groups {raw5:,.0f}, saturated {saturated:,.0f}")
        say(f"one worker {worker:,.0f} events/s ({worker / raw:.3f} of raw)")
        say(f"one worker a branch, 5 branches {worker5:,.0f} deliveries/s ({worker5 / raw5:.3f} of raw)")

        p50, p99, late = await self.latency(f"latency-{number}")
        say(f"publish to handler at {self.settings.rate}/s: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        return Round(raw, raw5, saturated, worker, worker5, p50, p99, late)

    async def settle_rate(self, pipeline: str, branches: int) -> float:
        """Deliveries a second one worker process settles, over all branches in turn."""
        keys = PipelineKeys(NAMESPACE, pipeline)
        names = [f"branch-{number}" for number in range(branches)]
        await ensure_groups(self.server, keys, names)
        publisher = Publisher(self.server, keys)
        batch = [random_event(self.random) for _ in range(PUBLISH_BATCH)]
        for start in range(0, self.settings.events, PUBLISH_BATCH):
            await publisher.publish(batch[: self.settings.events - start])
        timed, seconds = 0, 0.0
        for name in names:
            contract = self.contract(keys, name, "handlers:nothing")
            _, before = await self.snapshot(keys, name)
            if before.settled != 0:
                raise InvalidRunError(f"{keys} {name}: {before.settled} events settled before a worker ran")
            with running_worker(self.url, contract, self.folder):
                seen = await self.watch(keys, name, self.settings.events)
            events, took = warm_part(seen)
            timed, seconds = timed + events, seconds + took
            _, after = await self.snapshot(keys, name)
            self.check_settled(name, after, self.settings.events)
        await remove_pipeline(self.server, keys)
        return timed / seconds

    async def watch(self, keys: PipelineKeys, branch: str, events: int) -> list[tuple[int, int]]:
        """Watches until `events` are settled; the snapshots on the way: the server's clock in ms, events done."""
        deadline = time.monotonic() + SETTLE_SECONDS
        seen: list[tuple[int, int]] = []
        while True:
            now_ms, at = await self.snapshot(keys, branch)
            seen.append((now_ms, at.done))
            if at.settled >= events:
                return seen
            if time.monotonic() > deadline:
                raise InvalidRunError(
                    f"{keys} {branch}: {at.settled} of {events} settled after {SETTLE_SECONDS} s"
                )
            await asyncio.sleep(SNAPSHOT_SECONDS)

    async def latency(self, pipeline: str) -> tuple[float, float, float]:
        """Milliseconds from due to handler, p50 and p99, and how late the publisher was at worst."""
        keys, branch = PipelineKeys(NAMESPACE, pipeline), "branch-0"
        await ensure_groups(self.server, keys, [branch])
        arrivals = self.folder / f"arrivals-{pipeline}"
        contract = self.contract(keys, branch, "handlers:arrival")
        with running_worker(self.url, contract, self.folder, {"HEADGATE_BENCH_ARRIVALS": str(arrivals)}):
            command = [sys.executable, "-m", "bench.open_loop", self.url, NAMESPACE, pipeline]
            command += ["--rate", str(self.settings.rate), "--seconds", str(self.settings.latency_seconds)]
            publisher = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            said, _ = await publisher.communicate()
            if publisher.returncode != 0:
                raise InvalidRunError(f"the publisher ended with {publisher.returncode}")
            report = json.loads(said)
            await self.watch(keys, branch, report["published"])
        _, after = await self.snapshot(keys, branch)
        self.check_settled(branch, after, report["published"])
        await remove_pipeline(self.server, keys)
        if report["seconds"] > self.settings.latency_seconds * 1.02 + 0.1:
            raise InvalidRunError(
                f"the publisher took {report['seconds']:.2f} s: the machine is too slow for --rate"
            )
        return (*percentiles(arrivals, report["published"]), report["worstLateMs"])

    def contract(self, keys: PipelineKeys, branch: str, function: str) -> BranchContract:
        """What the worker is told."""
        return BranchContract(
            namespace=keys.namespace,
            pipeline=keys.pipeline,
            branch=branch,
            function=function,
            concurrency=self.settings.concurrency,
        )

    async def snapshot(self, keys: PipelineKeys, branch: str) -> tuple[int, BranchMeasurement]:
        """The server's clock in ms and the branch's counters, read at once."""
        [measured] = await measure(self.server, [(keys, [branch])])
        if measured is None:
            raise InvalidRunError(f"{keys}: the group of {branch} is gone")
        return measured.now_ms, measured.branches[branch]

    @staticmethod
    def check_settled(branch: str, at: BranchMeasurement, events: int) -> None:
        """Raises InvalidRunError unless each event was settled exactly once and nothing is left."""
        left = (at.undelivered, at.pending, at.delayed, at.dead, at.retried)
        if at.done != events or left != (0, 0, 0, 0, 0):
            raise InvalidRunError(
                f"{branch}: done {at.done} of {events}; undelivered, pending, delayed, dead, retried: {left}"
            )


def warm_part(seen: Sequence[tuple[int, int]]) -> tuple[int, float]:
    """Events and seconds of what was seen, without the first twentieth of the events; raises InvalidRunError.

    The last snapshot is left out too where others are left: it comes some time after the last event was settled.
    """
    events = seen[-1][1]
    warm = [at for at in seen if at[1] >= events * WARM_UP_SHARE]
    (warm_ms, before), (end_ms, done) = warm[0], warm[-2] if len(warm) > 2 else warm[-1]
    if warm_ms >= end_ms:
        raise InvalidRunError(f"{events} events are too few to time; give --events a larger number")
    return done - before, (end_ms - warm_ms) / 1000


def percentiles(arrivals: Path, published: int) -> tuple[float, float]:
    """p50 and p99 in ms of what the handler wrote down, without the first second; raises InvalidRunError."""
    noted = array("q")
    noted.frombytes(arrivals.read_bytes())
    due, took = noted[::2], noted[1::2]
    if len(due) != published or len(set(due)) != published:
        raise InvalidRunError(f"{published} published, {len(due)} handled, {len(set(due))} different ones")
    after = min(due) + int(LATENCY_WARM_UP_SECONDS * 1e9)
    measured = sorted(ns for at, ns in zip(due, took, strict=True) if at >= after)
    if not measured:
        raise InvalidRunError("--latency-seconds is not longer than the warm-up of 1 s")
    cuts = statistics.quantiles(measured, n=100, method="inclusive")
    return cuts[49] / 1e6, cuts[98] / 1e6
