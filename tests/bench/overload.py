"""`make bench-overload`: three times what the workers can do, for two minutes, on a real cluster.

Two workers of eight slots, whose handler sleeps a fifth of a second give or take half of it, do 80 events a second.
First High alone comes, 20 a second; then 240 a second come in all lanes, High and Normal alone more than can be done;
then High alone again, until nothing waits. Events are due at fixed times (open loop) and timed from then to their final
record. Two levels: Delay holds Low back, Refuse has publishers refused it; what is refused is counted, and not
published again. The last line is one object of JSON with the figures.

It ends with 1 when a figure misses what is asked of it (FLOORS).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.floors import Floor
from cluster.installation import installed
from cluster.kube import OPERATOR_NAMESPACE
from cluster.streams import Streams
from commands import run_command
from headgate.event import Lane, NewEvent
from headgate.streams import BackpressureError, PipelineKeys, Publisher, Server, measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.kube import Cluster, Manifest
    from headgate.streams import PipelineMeasurement

NAMESPACE, NAME, BRANCH = "bench-overload", "canal", "work"
WORKERS, CONCURRENCY, HANDLER_SECONDS = 2, 8, 0.2
CAPACITY = WORKERS * CONCURRENCY / HANDLER_SECONDS
QUIET: Mapping[Lane, int] = {Lane.HIGH: 20}
OVERLOAD: Mapping[Lane, int] = {Lane.HIGH: 20, Lane.NORMAL: 80, Lane.LOW: 140}
QUIET_SECONDS, OVERLOAD_SECONDS, DRAIN_SECONDS, AFTER_SECONDS = 30, 120, 240, 15
TICKS_A_SECOND = 20
LEVELS = [
    {"name": "Delay", "lag": 200, "releaseLag": 50, "delay": ["Low"]},
    {"name": "Refuse", "lag": 4000, "releaseLag": 1000, "reject": ["Low"]},
]

# Sleeps of one length would have all slots of a worker end at once, and then wait for each other, for ever.
HANDLERS = f"""
import asyncio, random

async def work(event):
    await asyncio.sleep({HANDLER_SECONDS} * random.uniform(0.5, 1.5))
"""

FLOORS = (
    Floor("overloadRatio", "events due a second to those settled, while overloaded", least=2.7),
    Floor(
        "highP99UnloadedMs", "the handler's own is 300: on a machine this busy nothing is measured", below=450
    ),
    Floor("highP99Ratio", "High's p99 while overloaded to the same unloaded", below=2),
    Floor("lowToHighMedian", "Low's median to High's while overloaded: Low was delayed", least=10),
    Floor("refused", "events of Low that publishers were refused", least=1),
    Floor("lost", "published events without a final record", below=1),
    Floor("doubled", "final records more than published events, and dead letters", below=1),
    Floor("delayTransitions", "times the gate moved: once shut, once open", least=2, below=3),
    Floor("refuseTransitions", "times the rejection moved: once there, once gone", least=2, below=3),
)


@dataclass
class Phase:
    """What was due in a phase: by id the ms of the server's clock, of those published; and how many were refused."""

    name: str
    published: dict[str, float] = field(default_factory=dict)
    refused: int = 0


class Valve:
    """What the server says of gate and rejection, looked at four times a second."""

    def __init__(self, server: Server, keys: PipelineKeys) -> None:
        self._server = server
        self._names = (keys.partition(0).gate(BRANCH), keys.partition(0).rejection)
        self.seen: list[tuple[bool, bool]] = [(False, False)]

    async def watch(self) -> None:
        """Looks until cancelled."""
        while True:
            found = [await self._server.execute(name, "GET", name) is not None for name in self._names]
            if (found[0], found[1]) != self.seen[-1]:
                self.seen.append((found[0], found[1]))
                _say(f"gate {'delays' if found[0] else 'open'}, Low {'refused' if found[1] else 'taken'}")
            await asyncio.sleep(0.25)

    def moves(self, which: int) -> int:
        """How often the gate (0) or the rejection (1) came or went."""
        states = [state[which] for state in self.seen]
        return sum(before != after for before, after in itertools.pairwise(states))


class Source:
    """Publishes at fixed rates, whatever becomes of it."""

    def __init__(self, server: Server, keys: PipelineKeys) -> None:
        self._server = server
        self._keys = keys
        self._publisher = Publisher(server, keys)

    async def run(
        self, phase: Phase, rates: Mapping[Lane, int], seconds: float, *, until_idle: bool = False
    ) -> None:
        """One phase of so many events a second and lane; with `until_idle` it ends as soon as none of them waits."""
        started, wall = time.monotonic(), time.time()
        sent = dict.fromkeys(rates, 0)
        for tick in range(int(seconds * TICKS_A_SECOND)):
            due_seconds = tick / TICKS_A_SECOND
            await asyncio.sleep(max(0.0, started + due_seconds - time.monotonic()))
            events: list[NewEvent] = []
            for lane, rate in rates.items():
                due = rate * (tick + 1) // TICKS_A_SECOND
                ids = [f"{phase.name}-{lane}-{number}" for number in range(sent[lane], due)]
                events += [NewEvent(data=0, id=each, lane=lane) for each in ids]
                sent[lane] = due
            taken = await self._publish(events)
            phase.refused += len(events) - len(taken)
            phase.published |= dict.fromkeys(taken, (wall + due_seconds) * 1000)
            looks = until_idle and tick % TICKS_A_SECOND == 0
            if looks and (await self.measured()).branches[BRANCH].lanes[Lane.LOW].backlog == 0:
                return
        if until_idle:
            raise RuntimeError(f"after {seconds:g} s there is still something that waits")

    async def measured(self) -> PipelineMeasurement:
        """The pipeline now."""
        (found,) = await measure(self._server, [(self._keys, (BRANCH,))])
        if found is None:
            raise RuntimeError(f"{self._keys} cannot be measured")
        return found

    async def _publish(self, events: Sequence[NewEvent]) -> list[str]:
        try:
            return [receipt.id for receipt in await self._publisher.publish(events)] if events else []
        except BackpressureError as error:
            return [receipt.id for receipt in error.receipts if receipt is not None]


async def drive(url: str, keys: PipelineKeys) -> tuple[list[Phase], float, Valve]:
    """All phases; gives them, the events settled a second while overloaded, and what was seen of the levels."""
    server = Server.connect(url)
    valve, source = Valve(server, keys), Source(server, keys)
    watching = asyncio.create_task(valve.watch())
    quiet, overload, drain = Phase("quiet"), Phase("overload"), Phase("drain")
    try:
        _say(f"High alone, {QUIET_SECONDS} s")
        await source.run(quiet, QUIET, QUIET_SECONDS)
        _say(f"{sum(OVERLOAD.values())} events a second where {CAPACITY:g} can be done, {OVERLOAD_SECONDS} s")
        before = (await source.measured()).branches[BRANCH].settled
        await source.run(overload, OVERLOAD, OVERLOAD_SECONDS)
        settled = (await source.measured()).branches[BRANCH].settled - before
        _say("High alone, until nothing else waits")
        await source.run(drain, QUIET, DRAIN_SECONDS, until_idle=True)
        # Long enough for the last of it, and for a gate that flutters to be seen.
        await asyncio.sleep(AFTER_SECONDS)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await server.aclose()
    return [quiet, overload, drain], settled / OVERLOAD_SECONDS, valve


def summary(
    phases: Sequence[Phase],
    settled_a_second: float,
    moves: tuple[int, int],
    joined: Mapping[str, Sequence[int]],
    dead: int,
) -> dict[str, Any]:
    """The figures; `joined` has the times in ms of the final records by id, `moves` those of gate and rejection."""
    took: dict[tuple[str, str], list[float]] = {}
    for phase in phases:
        for event_id, due_ms in phase.published.items():
            for at in joined.get(event_id, ()):
                took.setdefault((phase.name, event_id.split("-")[1]), []).append(at - due_ms)
    published = [event_id for phase in phases for event_id in phase.published]
    quiet, busy = took["quiet", Lane.HIGH], took["overload", Lane.HIGH]
    return {
        "overloadRatio": round(sum(OVERLOAD.values()) / settled_a_second, 2),
        "highP99UnloadedMs": _p99(quiet),
        "highP99OverloadMs": _p99(busy),
        "highP99Ratio": round(_p99(busy) / _p99(quiet), 2),
        "highP99DrainMs": _p99(took["drain", Lane.HIGH]),
        "normalMedianMs": round(statistics.median(took["overload", Lane.NORMAL])),
        "lowMedianMs": round(statistics.median(took["overload", Lane.LOW])),
        "lowToHighMedian": round(statistics.median(took["overload", Lane.LOW]) / statistics.median(busy), 1),
        "published": len(published),
        "refused": sum(phase.refused for phase in phases),
        "lost": sum(event_id not in joined for event_id in published),
        "doubled": sum(map(len, joined.values())) - len(joined) + dead,
        "delayTransitions": moves[0],
        "refuseTransitions": moves[1],
        "highEvents": len(busy),
    }


def logged_moves(log: str) -> tuple[int, int]:
    """How often the operator says that it moved the gate, and the rejection."""
    states: list[tuple[list[str], list[str]]] = [([], [])]
    for line in log.splitlines():
        if '"level changed"' in line and f'"{NAMESPACE}/{NAME}"' in line:
            said = json.loads(line[line.index("{") :])
            states.append((said["delayed"], said["rejected"]))
    pairs = list(itertools.pairwise(states))
    return sum(a[0] != b[0] for a, b in pairs), sum(a[1] != b[1] for a, b in pairs)


def main() -> int:
    """Runs all, prints the figures, and says what they miss."""
    with installed(NAMESPACE, _say) as (cluster, url):
        try:
            figures = _measure(cluster, url)
        except Exception:
            for title, text in cluster.diagnosis():
                _say(f"{title}\n{text}")
            raise
    said = [text for floor in FLOORS if (text := floor.missed(float(figures[floor.figure])))]
    for text in said:
        _say(f"MISSED: {text}")
    print(json.dumps(figures | {"missed": len(said)}))
    return 1 if said else 0


def _measure(cluster: Cluster, url: str) -> dict[str, Any]:
    cluster.apply(*_manifests())
    cluster.wait(NAMESPACE, f"fanoutpipeline/{NAME}", "condition=Ready")
    deployment = f"deployment/{NAME}-{BRANCH}"
    cluster.wait(NAMESPACE, deployment, f"jsonpath={{.status.readyReplicas}}={WORKERS}")
    streams = Streams(url, PipelineKeys(NAMESPACE, NAME), (BRANCH,))
    phases, settled, valve = asyncio.run(drive(url, streams.keys))
    records: dict[str, list[int]] = {}
    for record in streams.records():
        records.setdefault(record.id, []).append(record.joined_ms)
    selector = ("-l", "app.kubernetes.io/component=operator", "--tail=-1")
    log = cluster.kubectl("-n", OPERATOR_NAMESPACE, "logs", *selector).stdout
    logged = logged_moves(log)
    # The log has every decision, the server what came of it: a gate that expired under a late pilot, for one.
    moves = max(logged[0], valve.moves(0)), max(logged[1], valve.moves(1))
    return summary(phases, settled, moves, records, streams.measure().branches[BRANCH].dead)


def _p99(values: Sequence[float]) -> float:
    return round(statistics.quantiles(values, n=100, method="inclusive")[98])


def _say(what: str) -> None:
    print(f"bench-overload: {what}", file=sys.stderr, flush=True)


def _manifests() -> tuple[Manifest, Manifest]:
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "handlers", "namespace": NAMESPACE},
        "data": {"overload_handlers.py": HANDLERS},
    }
    branch = {
        "name": BRANCH,
        "handler": {"python": {"image": "headgate/worker:dev", "function": "overload_handlers:work"}},
        "concurrency": CONCURRENCY,
        "scale": {"min": WORKERS, "max": WORKERS},
        "pod": {
            "env": [{"name": "PYTHONPATH", "value": "/handlers"}],
            "volumes": [{"name": "handlers", "configMap": {"name": "handlers"}}],
            "volumeMounts": [{"name": "handlers", "mountPath": "/handlers", "readOnly": True}],
        },
    }
    pipeline = {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"branches": [branch], "join": {"branches": [BRANCH]}, "backpressure": {"levels": LEVELS}},
    }
    return code, pipeline


if __name__ == "__main__":
    run_command(main)
