"""`make bench-operator`: a thousand pipelines under one operator. Exits 1 when a target is missed; JSON comes last.

readySeconds      from the first pipeline's creation until all are Ready
peakMb            most memory the operator had resident, all the time
restCorePercent   of one core, over a minute in which nothing happens
tickSeconds       no tick of the pilot took longer in that minute, nor began later: the next bound of its histograms
burstSeconds      the slowest of twelve: an event on a pipeline at rest, until spec.replicas of a branch is patched
takeoverLedSeconds  from the leader's SIGKILL until a second operator leads
takeoverSeconds   ... until it has scaled a branch from zero; no target here, where its pass waits among a thousand

Nodes and pods are played by KWOK. API server, etcd, controller manager, scheduler, Redis and the operator are real, and
share this machine's cores with the bench. The operator runs as a process of its own on the kubeconfig.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.operator_plane import ControlPlane
from bench.operator_process import OperatorProcess
from bench.operator_takeover import take_over
from commands import run_command
from headgate.event import NewEvent
from headgate.streams import PipelineKeys, Publisher, Server
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.cluster import Cluster
from headgate_operator.crd import crd
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import Mapping

BRANCHES = 5
LAST = f"branch-{BRANCHES - 1}"
LOOK_SECONDS = 4.0
NAMESPACES = 10
CREATED_AT_ONCE = 4
SETTLE_SECONDS = 30.0
REST_SECONDS = 60.0
GIVE_UP_SECONDS = 900.0
BURSTS = 12
TARGETS: Mapping[str, float] = {
    "readySeconds": 180,
    "peakMb": 400,
    "restCorePercent": 15,
    "tickSeconds": 2,
    "burstSeconds": 1,
    "takeoverLedSeconds": 5,
}
TICK_METRICS = ("headgate_pilot_tick_seconds", "headgate_pilot_tick_lateness_seconds")


@dataclass(frozen=True)
class Bench:
    """What is measured: a control plane, its client, a server, and the size."""

    plane: ControlPlane
    cluster: Cluster
    redis_url: str
    count: int
    with_pods: bool

    async def run(self, folder: Path) -> dict[str, float]:
        """All figures."""
        operator = self.start(folder / "operator.log")
        try:
            operator.await_said("leading")
            started = time.monotonic()
            await self.create_all()
            _say(f"created after {time.monotonic() - started:.0f} s")
            await self.all_ready(started + GIVE_UP_SECONDS)
            ready, took = time.monotonic() - started, operator.cpu_seconds()
            _say(f"all Ready after {ready:.1f} s; {operator.peak_mb():.0f} MB, {took:.0f} s of a core")
            await asyncio.sleep(SETTLE_SECONDS)
            percent, tick = await at_rest(operator)
            _say(f"at rest {percent:.1f}% of a core, no tick over {tick} s")
            bursts = [await self.burst(at * self.count // BURSTS) for at in range(BURSTS)]
            figures = {
                "pipelines": self.count,
                "readySeconds": round(ready, 1),
                "readyCoreSeconds": round(took, 1),
                "peakMb": round(operator.peak_mb()),
                "restCorePercent": round(percent, 1),
                "tickSeconds": tick,
                "burstSeconds": round(max(bursts), 3),
            }
            _say(f"{figures}")
            return figures | await self.takeover(operator, folder)
        finally:
            operator.stop()

    def start(self, log: Path) -> OperatorProcess:
        """An operator."""
        return OperatorProcess(self.plane.kubeconfig, self.redis_url, log)

    async def create_all(self) -> None:
        """Creates the pipelines, some at once."""
        numbers = iter(range(self.count))

        async def create() -> None:
            for number in numbers:
                await self.cluster.create(pipeline(number, with_pods=self.with_pods))

        await asyncio.gather(*(create() for _ in range(CREATED_AT_ONCE)))

    async def all_ready(self, deadline: float) -> None:
        """Returns when all are Ready; raises RuntimeError at the deadline."""
        ready = -1
        while ready < self.count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {ready} of {self.count} pipelines are Ready")
            await asyncio.sleep(LOOK_SECONDS)
            found = self.plane.kubectl("get", "fanoutpipelines", "-A", "--no-headers")
            rows = [line.split() for line in found.stdout.splitlines()]
            if found.returncode == 0 and (now := sum(row[2] == "True" for row in rows)) != ready:
                ready = now
                _say(f"{ready} Ready")

    async def burst(self, number: int) -> float:
        """Seconds from an event to the patch of a branch without workers."""
        namespace, name = _place(number)
        server = Server.connect(self.redis_url)
        try:
            await Publisher(server, PipelineKeys(namespace, name)).publish([NewEvent(data=0)])
            started = time.monotonic()
            while time.monotonic() < started + 60:
                live = await self.cluster.get("apps/v1", "Deployment", namespace, f"{name}-{LAST}")
                if live["spec"]["replicas"]:
                    return time.monotonic() - started
                await asyncio.sleep(0.01)
            raise RuntimeError(f"{namespace}/{name} got no worker in a minute")
        finally:
            await server.aclose()

    async def takeover(self, leader: OperatorProcess, folder: Path) -> dict[str, float]:
        """Figures of a second operator that takes over; its pipeline is one that had no burst."""
        standby = self.start(folder / "standby.log")
        try:
            standby.await_said("waiting to lead")
            place = PipelineKeys(*_place(1)), LAST
            took = await take_over(leader, standby, self.cluster, self.redis_url, place)
        finally:
            standby.stop()
        return {"takeoverLedSeconds": round(took.led, 2), "takeoverSeconds": round(took.scaled, 2)}


async def at_rest(operator: OperatorProcess) -> tuple[float, float]:
    """Percent of a core, and the bound that no tick exceeded, over REST_SECONDS from now."""
    before, ticks, since = operator.cpu_seconds(), operator.metrics(), time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    percent = (operator.cpu_seconds() - before) / (time.monotonic() - since) * 100
    after = operator.metrics()
    return percent, max(_bound(name, ticks, after) for name in TICK_METRICS)


def _bound(histogram: str, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The least bound of a histogram's buckets that all observations between two readings kept."""
    whole = after[f"{histogram}_count"] - before[f"{histogram}_count"]
    bounds = (re.fullmatch(histogram + r'_bucket{le="(.+)"}', sample) for sample in after)
    return min(
        float(bound[1])
        for bound in bounds
        if bound is not None and after[bound[0]] - before[bound[0]] == whole
    )


def misses(figures: Mapping[str, float]) -> list[str]:
    """What is not as it should be, one sentence each."""
    return [
        f"{name} is {figures[name]}, and should be under {bound}"
        for name, bound in TARGETS.items()
        if not figures[name] < bound
    ]


def pipeline(number: int, *, with_pods: bool) -> dict[str, Any]:
    """One of them: five branches, of which the first keeps a worker."""
    namespace, name = _place(number)
    python = {"python": {"image": "headgate/worker:dev", "function": "handlers:work"}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "branches": [
                {
                    "name": f"branch-{at}",
                    "handler": python,
                    "scale": {"min": int(with_pods and at == 0), "max": 4},
                }
                for at in range(BRANCHES)
            ],
            "join": {"branches": [f"branch-{at}" for at in range(BRANCHES)]},
            "backpressure": {"levels": [{"name": "Delay", "lag": 1000, "releaseLag": 500, "delay": ["Low"]}]},
        },
    }


def _place(number: int) -> tuple[str, str]:
    return f"bench-{number % NAMESPACES}", f"pipeline-{number}"


def _prepare(plane: ControlPlane) -> None:
    name = f"crd/{crd()['metadata']['name']}"
    for arguments, given in (
        (("apply", "-f", "-"), crd()),
        (("wait", "--for=condition=Established", name), None),
        *(
            (
                ("apply", "-f", "-"),
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"bench-{at}"}},
            )
            for at in range(NAMESPACES)
        ),
    ):
        done = plane.kubectl(*arguments, given=given)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")


def _say(what: str) -> None:
    print(f"bench-operator: {what}", file=sys.stderr)


async def _run(plane: ControlPlane, redis_url: str, chosen: argparse.Namespace) -> dict[str, float]:
    os.environ["KUBECONFIG"] = str(plane.kubeconfig)
    cluster = await Cluster.connect()
    try:
        bench = Bench(plane, cluster, redis_url, chosen.pipelines, not chosen.no_pods)
        return await bench.run(chosen.logs or plane.directory)
    finally:
        await cluster.aclose()


def main() -> int:
    """Runs it and prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", type=int, default=1000)
    parser.add_argument("--logs", type=Path, help="an existing folder for the operators' logs")
    parser.add_argument(
        "--no-pods", action="store_true", help="without controllers, scheduler, nodes and pods"
    )
    chosen = parser.parse_args()
    # Go's collector would take a good part of the two cores from what is measured.
    os.environ.setdefault("GOGC", "300")
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, redis7() as redis_url:
        plane = ControlPlane(Path(folder))
        plane.start()
        try:
            _prepare(plane)
            if not chosen.no_pods:
                plane.populate()
            figures = asyncio.run(_run(plane, redis_url, chosen))
        finally:
            plane.stop()
    found = misses(figures)
    for miss in found:
        _say(f"MISSED: {miss}")
    print(json.dumps(figures))
    return 1 if found else 0


if __name__ == "__main__":
    run_command(main)
