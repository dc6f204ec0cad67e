"""The pilot on the cluster of hack/cluster: how soon spec.replicas follows a burst, and a trace in real time.

Times are of one machine's clock: before the burst is published, and when a watcher is told of the changed Deployment.

- 0 to 1: a single event, a worker that really starts and settles it. Back to zero: from the settling (as the server
  timed it) until spec.replicas is 0, less `scaleDownAfterSeconds`.
- 0 to 32: events for 32 workers. Their pods fit on no node, as a test's node has no room for them; once the burst is
  seen, the branch's place is set to the end of the stream, which empties its backlog.
- A trace in real time, thinned until its peak takes four of our small workers, every eighth second of it; and the same
  trace in simulated time, and the oracle's least for it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.autoscale.oracle import least_worker_seconds
from bench.autoscale.pilot import PilotScaler
from bench.autoscale.simulation import replay
from bench.autoscale.traces import QUICK, Trace, load
from bench.replicas_watch import ReplicasWatch
from cluster.installation import installed
from cluster.kube import wait_until
from cluster.streams import Streams
from headgate.event import Lane, NewEvent
from headgate.streams import PipelineKeys, Publisher, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster.kube import Cluster, Manifest

NAMESPACE = "bench-autoscale"
WINDOW_SECONDS = 3
MANY = 32
PATIENCE_SECONDS = 60.0
THINNED = 8  # of so many events one is left
SKIPPED = 8  # of so many seconds one is left
REAL = replace(QUICK, max=5)
NOWHERE = {"nodeSelector": {"headgate.dev/bench": "nowhere"}}
HANDLERS = """
import asyncio, random

async def quick(event):
    return None

async def second(event):
    await asyncio.sleep(random.uniform(0.75, 1.25))
    return None
"""


@dataclass(frozen=True)
class OnCluster:
    """A cluster with Headgate on it, its server's URL on this machine, and where progress goes."""

    cluster: Cluster
    url: str
    say: Callable[[str], None]

    def figures(self, bursts: int) -> dict[str, Any]:
        """All of it."""
        one, over = self._zero_to_one(bursts)
        many = self._zero_to_many(bursts)
        return {
            "zeroToOneSeconds": round(statistics.median(one), 3),
            "zeroToOneWorstSeconds": round(max(one), 3),
            "zeroTo32Seconds": round(statistics.median(many), 3),
            "zeroTo32WorstSeconds": round(max(many), 3),
            "backToZeroSecondsOverWindow": round(max(over), 3),
            "bursts": bursts,
            "realTime": self._real_time(),
        }

    def _zero_to_one(self, bursts: int) -> tuple[list[float], list[float]]:
        """Seconds until a worker is asked for, and from the settling to zero less the window, of each burst."""
        scale = {"max": 4, "scaleDownAfterSeconds": WINDOW_SECONDS}
        streams, watch = self._apply("one", "quick", scale)
        took, over = [], []
        for number in range(bursts):
            _await_zero(watch)
            self._await_no_pod("one")
            began = time.time()
            streams.publish([NewEvent(data=number, id=f"burst-{number}")])
            took.append(_awaited(watch, began, 1) - began)
            wait_until("settled", lambda n=number: streams.measure().joined > n, PATIENCE_SECONDS)
            settled = max(record.joined_ms for record in streams.records()) / 1000
            _await_zero(watch)
            over.append(watch.zero(began) - settled - WINDOW_SECONDS)
            self.say(f"0 to 1, burst {number + 1}: {took[-1]:.3f} s; back {over[-1]:+.3f} s over the window")
        self._delete("one", watch)
        return took, over

    def _zero_to_many(self, bursts: int) -> list[float]:
        """Seconds of each burst until spec.replicas is MANY."""
        scale = {"max": MANY, "scaleDownAfterSeconds": WINDOW_SECONDS}
        streams, watch = self._apply("many", "quick", scale, concurrency=1, pod=NOWHERE)
        took = []
        for number in range(bursts):
            _await_zero(watch)
            began = time.time()
            streams.publish([NewEvent(data=at) for at in range(4 * MANY)])
            took.append(_awaited(watch, began, MANY) - began)
            asyncio.run(_forget(self.url, streams.keys))
            steps = [replicas for at, replicas in watch.seen if at > began]
            self.say(f"0 to {MANY}, burst {number + 1}: {took[-1]:.3f} s, by way of {steps}")
        self._delete("many", watch)
        return took

    def _real_time(self) -> dict[str, Any]:
        """One trace, second by second."""
        trace = thinned(load("step"))
        scale = {
            "max": REAL.max,
            "scaleDownAfterSeconds": int(REAL.scale_down_after_seconds),
            "drainWithinSeconds": int(REAL.drain_within_seconds),
            "maxAgeSeconds": int(REAL.objective_seconds),
        }
        streams, watch = self._apply("real", "second", scale, concurrency=REAL.concurrency)
        _await_zero(watch)
        events, began = sum(trace.arrivals), time.time()
        self.say(f"a trace in real time: {len(trace.arrivals)} s, {events} events")
        asyncio.run(publish(self.url, streams.keys, trace))
        wait_until("every record", lambda: streams.measure().joined >= events, PATIENCE_SECONDS, every=1)
        ages = [(record.joined_ms - record.published_ms) / 1000 for record in streams.records()]
        _await_zero(watch)
        changes = [(began, 0), *((at, replicas) for at, replicas in watch.seen if at > began)]
        paid = worker_seconds(changes)
        within = sum(age <= REAL.objective_seconds for age in ages)
        even = [REAL.handler_seconds] * events
        simulated = replay(trace, PilotScaler(REAL.limits), seed=1)
        self._delete("real", watch)
        return {
            "seconds": len(trace.arrivals),
            "events": events,
            "withinObjective": round(within / events, 5),
            "workerSeconds": round(paid),
            "workerSecondsToOracle": round(paid / least_worker_seconds(trace, even, events - within), 3),
            "workerSecondsSimulated": round(simulated.worker_seconds),
            "scaleChanges": sum(a[1] != b[1] for a, b in itertools.pairwise(changes)),
            "oldestSeconds": round(max(ages), 1),
        }

    def _apply(
        self,
        name: str,
        function: str,
        scale: dict[str, int],
        concurrency: int = 8,
        pod: Manifest | None = None,
    ) -> tuple[Streams, ReplicasWatch]:
        self.cluster.apply(_pipeline(name, function, scale, concurrency, pod or {}))
        self.cluster.wait(NAMESPACE, f"fanoutpipeline/{name}", "condition=Ready")
        watch = ReplicasWatch(self.cluster, NAMESPACE, f"{name}-work")
        return Streams(self.url, PipelineKeys(NAMESPACE, name), ("work",)), watch

    def _await_no_pod(self, name: str) -> None:
        """A worker that is not gone yet might take the event, and nobody would be asked for."""
        label = f"headgate.dev/pipeline={name}"
        wait_until("no pod", lambda: not self.cluster.items(NAMESPACE, "pods", "-l", label), PATIENCE_SECONDS)

    def _delete(self, name: str, watch: ReplicasWatch) -> None:
        watch.stop()
        self.cluster.kubectl("-n", NAMESPACE, "delete", f"fanoutpipeline/{name}")


def measure_on_cluster(bursts: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, on the cluster that runs or on one that is started for it."""
    with installed(NAMESPACE, say) as (cluster, url):
        cluster.apply(_handlers())
        return OnCluster(cluster, url, say).figures(bursts)


def thinned(trace: Trace) -> Trace:
    """Every eighth second of a trace, and of its events every eighth: for four workers instead of some thirty."""
    arrivals, left = [], 0
    for count in trace.arrivals[::SKIPPED]:
        left += count
        arrivals.append(left // THINNED)
        left %= THINNED
    return Trace(trace.name, tuple(arrivals), REAL)


def worker_seconds(changes: Sequence[tuple[float, int]]) -> float:
    """Seconds times replicas, up to the last change."""
    return sum(replicas * (until - since) for (since, replicas), (until, _) in itertools.pairwise(changes))


async def publish(url: str, keys: PipelineKeys, trace: Trace) -> None:
    """A trace's events, each when it is due, at most a twentieth of a second late."""
    server = Server.connect(url)
    publisher, times, began, sent = Publisher(server, keys), trace.times, time.monotonic(), 0
    while sent < len(times):
        passed = time.monotonic() - began
        due = next((at for at in range(sent, len(times)) if times[at] > passed), len(times))
        if due > sent:
            await publisher.publish([NewEvent(data=at) for at in range(sent, due)])
            sent = due
        await asyncio.sleep(0.05)
    await server.aclose()


async def _forget(url: str, keys: PipelineKeys) -> None:
    """Sets the branch's place to the end of the stream: what waits is taken by nobody."""
    server = Server.connect(url)
    lane = keys.partition(0).lane(Lane.NORMAL)
    await server.execute(lane, "XGROUP", "SETID", lane, "work", "$")
    await server.aclose()


def _await_zero(watch: ReplicasWatch) -> None:
    wait_until("zero replicas", lambda: watch.last == 0, PATIENCE_SECONDS, every=0.05)


def _awaited(watch: ReplicasWatch, since: float, least: int) -> float:
    return (
        wait_until(f"{least} replicas", lambda: watch.first(since, least), PATIENCE_SECONDS, every=0.05)
        or 0.0
    )


def _handlers() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "handlers", "namespace": NAMESPACE},
        "data": {"bench_handlers.py": HANDLERS},
    }


def _pipeline(name: str, function: str, scale: dict[str, int], concurrency: int, pod: Manifest) -> Manifest:
    branch = {
        "name": "work",
        "handler": {"python": {"image": "headgate/worker:dev", "function": f"bench_handlers:{function}"}},
        "concurrency": concurrency,
        "scale": {"min": 0} | scale,
        "pod": {
            "env": [{"name": "PYTHONPATH", "value": "/handlers"}],
            "volumes": [{"name": "handlers", "configMap": {"name": "handlers"}}],
            "volumeMounts": [{"name": "handlers", "mountPath": "/handlers", "readOnly": True}],
        }
        | pod,
    }
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"branches": [branch], "join": {"branches": ["work"]}},
    }
