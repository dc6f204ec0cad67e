"""How soon an event reaches its handler, and a C client an entry: open loop, from the time it was due."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import InvalidRunError, percentiles
from bench.settling import NAMESPACE, check_settled, snapshot, watch
from bench.work import Work
from bench.workers import running_worker
from headgate.streams import PipelineKeys, ensure_groups, remove_pipeline

if TYPE_CHECKING:
    from bench.rounds import Bench

WORK = Work("latency", "publish to handler", "handlers:arrival")
RAW_SECONDS = 4
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds: ours from due to handler, and how late its publisher was at worst; the C client's beside it."""

    p50: float
    p99: float
    publisher_late: float
    raw_p50: float
    raw_p99: float


async def latency(bench: Bench, rate: int, number: int) -> Latency:
    """Both at `rate` events a second; raises InvalidRunError."""
    raw = bench.folder / f"raw-arrivals-{rate}-{number}"
    await asyncio.to_thread(bench.raw.arrivals, bench.port, rate, RAW_SECONDS, raw)
    raw_p50, raw_p99 = percentiles(raw, rate * RAW_SECONDS)
    return Latency(*await _ours(bench, rate, number), raw_p50, raw_p99)


async def _ours(bench: Bench, rate: int, number: int) -> tuple[float, float, float]:
    keys, branch = PipelineKeys(NAMESPACE, f"{WORK.name}-{rate}-{number}"), WORK.branch_names[0]
    await ensure_groups(bench.server, keys, [branch])
    arrivals = bench.folder / f"arrivals-{rate}-{number}"
    contract = WORK.contract(keys, branch, bench.settings.concurrency)
    with running_worker(bench.url, contract, bench.folder, {"HEADGATE_BENCH_ARRIVALS": str(arrivals)}):
        report = await _publish(bench, keys, rate)
        await watch(bench.server, keys, branch, report["published"])
    after = await snapshot(bench.server, keys, [branch])
    check_settled(branch, after.branches[branch], report["published"])
    await remove_pipeline(bench.server, keys)
    return (*percentiles(arrivals, report["published"]), report["worstLateMs"])


async def _publish(bench: Bench, keys: PipelineKeys, rate: int) -> dict[str, int]:
    """Runs the publisher, a process of its own; what it reports."""
    seconds = bench.settings.latency_seconds
    command = [sys.executable, "-m", "bench.open_loop", bench.url, keys.namespace, keys.pipeline]
    command += ["--rate", str(rate), "--seconds", str(seconds)]
    publisher = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            said, _ = await publisher.communicate()
    except TimeoutError:
        publisher.kill()
        await publisher.wait()
        raise InvalidRunError(f"the publisher has not ended after {seconds + GRACE_SECONDS:g} s") from None
    if publisher.returncode != 0:
        raise InvalidRunError(f"the publisher ended with {publisher.returncode}")
    report: dict[str, int] = json.loads(said)
    if report["seconds"] > seconds * 1.02 + 0.1:
        raise InvalidRunError(
            f"the publisher took {report['seconds']:.2f} s for {seconds:g}: the machine is too slow for {rate}/s"
        )
    return report
