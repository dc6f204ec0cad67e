"""`make bench-cluster`: how fast the control plane is on a real cluster. Figures, no verdict; JSON on the last line.

applyToReadySeconds          kubectl apply of a new pipeline until Ready, its worker included; median of rounds
burstToReplicasSeconds       a burst on a pipeline at zero until spec.replicas is patched; median of rounds
burstToAllReplicasSeconds    ... until it is at the maximum the burst needs
highP99Ratio                 High's p99 through a burst of twice what the workers can do, over the same unloaded
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.replicas_watch import ReplicasWatch
from cluster.installation import installed
from cluster.kube import wait_until
from cluster.streams import Streams
from commands import run_command
from headgate.event import Lane, NewEvent
from headgate.streams import PipelineKeys, Publisher, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.kube import Cluster, Manifest

NAMESPACE = "bench"
ROUNDS = 5
HANDLER_SECONDS = 0.1
CONCURRENCY = 8
WORKERS = 2
PHASE_SECONDS = 20
HIGH_A_SECOND = 20
# Twice what two workers do (160/s); without Low it is still more than that.
BURST_A_SECOND: Mapping[Lane, int] = {Lane.HIGH: HIGH_A_SECOND, Lane.NORMAL: 200, Lane.LOW: 100}
BURST_FROM_ZERO = 400

HANDLERS = f"""
import asyncio

async def work(event):
    await asyncio.sleep({HANDLER_SECONDS})
    return event.data
"""


@dataclass(frozen=True)
class Bench:
    """A cluster with headgate on it, and its server's URL on this machine."""

    cluster: Cluster
    url: str

    def streams(self, name: str) -> Streams:
        """Streams of one of the pipelines."""
        return Streams(self.url, PipelineKeys(NAMESPACE, name), ("work",))

    def apply(self, name: str, least: int, most: int) -> float:
        """Applies a new pipeline; gives the seconds until it is Ready."""
        started = time.monotonic()
        self.cluster.apply(_pipeline(name, least, most))
        self.cluster.wait(NAMESPACE, f"fanoutpipeline/{name}", "condition=Ready")
        return time.monotonic() - started

    def delete(self, name: str) -> None:
        """Deletes a pipeline and waits until it is gone."""
        self.cluster.kubectl("-n", NAMESPACE, "delete", f"fanoutpipeline/{name}")

    def apply_to_ready(self) -> list[float]:
        """Seconds of each round, with one worker to come up."""
        seconds = []
        for number in range(ROUNDS):
            seconds.append(self.apply(f"ready-{number}", 1, 1))
            self.delete(f"ready-{number}")
        return seconds

    def burst_to_replicas(self) -> tuple[list[float], list[float]]:
        """Seconds of each round from a burst at zero to the first patch, and to the most replicas asked for."""
        name, streams = "burst", self.streams("burst")
        self.apply(name, 0, 4)
        first, full = [], []
        for number in range(ROUNDS):
            watch = ReplicasWatch(self.cluster, NAMESPACE, f"{name}-work")
            wait_until("zero replicas", lambda watch=watch: watch.last == 0, 60)
            published = time.time()
            streams.publish([NewEvent(data=at) for at in range(BURST_FROM_ZERO)])
            wait_until("settled", lambda n=number: streams.measure().joined >= BURST_FROM_ZERO * (n + 1), 60)
            seen = [(at - published, replicas) for at, replicas in watch.stop() if at > published]
            most = max(replicas for _, replicas in seen)
            first.append(next(at for at, replicas in seen if replicas > 0))
            full.append(next(at for at, replicas in seen if replicas == most))
        self.delete(name)
        return first, full

    def high_through_burst(self) -> tuple[list[float], dict[Lane, list[float]]]:
        """Milliseconds from publish to final record: High unloaded, then each lane through the burst."""
        name, streams = "lanes", self.streams("lanes")
        self.apply(name, WORKERS, WORKERS)
        deployment = f"deployment/{name}-work"
        self.cluster.wait(NAMESPACE, deployment, f"jsonpath={{.status.readyReplicas}}={WORKERS}")
        asyncio.run(self._publish(streams, {Lane.HIGH: HIGH_A_SECOND}, "quiet"))
        asyncio.run(self._publish(streams, BURST_A_SECOND, "burst"))
        sent = PHASE_SECONDS * (HIGH_A_SECOND + sum(BURST_A_SECOND.values()))
        wait_until(f"{sent} records", lambda: streams.measure().joined >= sent, 120, every=1)
        took: dict[tuple[str, Lane], list[float]] = {}
        for record in streams.records():
            phase, lane, _ = record.id.split("-")
            took.setdefault((phase, Lane(lane)), []).append(float(record.joined_ms - record.published_ms))
        self.delete(name)
        return took["quiet", Lane.HIGH], {lane: took["burst", lane] for lane in Lane}

    async def _publish(self, streams: Streams, rates: Mapping[Lane, int], phase: str) -> None:
        """So many events a second and lane for one phase, every twentieth of a second a share."""
        server, ticks = Server.connect(self.url), PHASE_SECONDS * 20
        publisher, started = Publisher(server, streams.keys), time.monotonic()
        sent = dict.fromkeys(rates, 0)
        for tick in range(ticks):
            await asyncio.sleep(max(0.0, started + tick / 20 - time.monotonic()))
            events = []
            for lane, rate in rates.items():
                due = rate * PHASE_SECONDS * (tick + 1) // ticks
                events += [
                    NewEvent(data=0, id=f"{phase}-{lane}-{at}", lane=lane) for at in range(sent[lane], due)
                ]
                sent[lane] = due
            if events:
                await publisher.publish(events)
        await server.aclose()


def main() -> int:
    """Runs all and prints the figures."""
    with installed(NAMESPACE, _say) as (cluster, url):
        cluster.apply(_handlers())
        bench = Bench(cluster, url)
        _say("apply to Ready")
        ready = bench.apply_to_ready()
        _say("burst to replicas")
        first, full = bench.burst_to_replicas()
        _say("High through a burst")
        quiet, burst = bench.high_through_burst()
    figures = {
        "applyToReadySeconds": round(statistics.median(ready), 2),
        "applyToReadySecondsWorst": round(max(ready), 2),
        "burstToReplicasSeconds": round(statistics.median(first), 2),
        "burstToReplicasSecondsWorst": round(max(first), 2),
        "burstToAllReplicasSeconds": round(statistics.median(full), 2),
        "highP99UnloadedMs": _p99(quiet),
        "highP99BurstMs": _p99(burst[Lane.HIGH]),
        "highP99Ratio": round(_p99(burst[Lane.HIGH]) / _p99(quiet), 2),
        "lowMedianBurstMs": round(statistics.median(burst[Lane.LOW])),
        "rounds": ROUNDS,
        "highEvents": len(quiet),
    }
    print(json.dumps(figures))
    return 0


def _p99(values: list[float]) -> float:
    return round(statistics.quantiles(values, n=100, method="inclusive")[98])


def _say(what: str) -> None:
    print(f"bench-cluster: {what}", file=sys.stderr)


def _handlers() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "handlers", "namespace": NAMESPACE},
        "data": {"bench_handlers.py": HANDLERS},
    }


def _pipeline(name: str, least: int, most: int) -> Manifest:
    branch = {
        "name": "work",
        "handler": {"python": {"image": "headgate/worker:dev", "function": "bench_handlers:work"}},
        "concurrency": CONCURRENCY,
        "scale": {"min": least, "max": most, "drainWithinSeconds": 1, "scaleDownAfterSeconds": 3},
        "pod": {
            "env": [{"name": "PYTHONPATH", "value": "/handlers"}],
            "volumes": [{"name": "handlers", "configMap": {"name": "handlers"}}],
            "volumeMounts": [{"name": "handlers", "mountPath": "/handlers", "readOnly": True}],
        },
    }
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "branches": [branch],
            "join": {"branches": ["work"]},
            "backpressure": {"levels": [{"name": "Delay", "lag": 100, "releaseLag": 20, "delay": ["Low"]}]},
        },
    }


if __name__ == "__main__":
    run_command(main)
