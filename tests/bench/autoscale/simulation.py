"""One trace replayed in simulated time against one scaler: what it paid, and how old events became."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

from bench.autoscale.workers import Workers

if TYPE_CHECKING:
    from bench.autoscale.traces import Trace

TAIL_SECONDS = 600.0
"""After the last second of a trace: every scaler pays for its own way back to zero."""
SPREAD = 0.25  # handlers take up to this share more or less than their mean


@dataclass(frozen=True)
class Seen:
    """What a scaler may know at one time (seconds since the trace began). Counters are cumulative."""

    now: float
    published: int
    settled: int
    busy_seconds: float
    backlog: int
    age_seconds: float
    replicas: int
    """Asked for now."""
    ready: int
    holders: int
    """Workers that hold events now."""


class Scaler(Protocol):
    """Something that decides how many workers there are."""

    def next_look(self, now: float, replicas: int, next_arrival: float) -> float:
        """When it looks next, after `now`; only one that has a doorbell may use when the next event comes."""

    def look(self, seen: Seen) -> int:
        """Replicas to ask for."""


@dataclass(frozen=True)
class Replay:
    """What became of a trace under one scaler."""

    events: int
    within: int
    """Events settled within the age objective."""
    worker_seconds: float
    scale_changes: int
    oldest_seconds: float
    most_replicas: int

    @property
    def share(self) -> float:
        """Share of events within the objective."""
        return self.within / self.events


def handler_seconds(trace: Trace, seed: int) -> list[float]:
    """How long each event of a trace takes: the same for every scaler."""
    random, mean = Random(f"{seed}/{trace.name}"), trace.branch.handler_seconds
    return [mean * random.uniform(1 - SPREAD, 1 + SPREAD) for _ in range(sum(trace.arrivals))]


def replay(trace: Trace, scaler: Scaler, seed: int) -> Replay:
    """Replays a trace until TAIL_SECONDS after its end, and on while events are unsettled."""
    times, branch = trace.times, trace.branch
    workers = Workers(times, handler_seconds(trace, seed), branch.concurrency, branch.start_seconds)
    end = len(trace.arrivals) + TAIL_SECONDS
    now, changes, most = 0.0, 0, 0
    while now < end or workers.settled < len(times):
        workers.advance(now)
        published = bisect.bisect_right(times, now)
        replicas = scaler.look(
            Seen(
                now=now,
                published=published,
                settled=workers.settled,
                busy_seconds=workers.busy_seconds,
                backlog=published - workers.settled,
                age_seconds=workers.oldest_age(now),
                replicas=len(workers.running),
                ready=workers.ready,
                holders=workers.holders,
            )
        )
        if replicas != len(workers.running):
            changes += 1
            workers.scale(replicas)
        most = max(most, replicas)
        coming = times[published] if published < len(times) else float("inf")
        now = scaler.next_look(now, replicas, coming)
    workers.advance(now)
    return Replay(
        events=len(times),
        within=sum(age <= branch.objective_seconds for age in workers.ages),
        worker_seconds=workers.worker_seconds(),
        scale_changes=changes,
        oldest_seconds=max(workers.ages, default=0.0),
        most_replicas=most,
    )
