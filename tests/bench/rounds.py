"""One round of the benchmark: the C client, one worker process at each kind of work, latency, and the peers."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.latency import latency
from bench.peer_runs import PEERS, peer_rate
from bench.settling import settle
from bench.work import FANOUT5, PLAIN, WORKS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from random import Random

    from bench.latency import Latency
    from bench.raw import RawClient
    from headgate.streams import Server

SATURATED_DEPTH = 4
LATENCY_RATES = (1000, 5000)


@dataclass(frozen=True)
class Settings:
    """How much a run measures."""

    server: str
    rounds: int
    events: int
    concurrency: int
    latency_seconds: float
    peers: bool
    seed: int


@dataclass(frozen=True)
class Round:
    """One round's figures: deliveries a second (`worker` by kind of work, `peers` by name), ms by rate, MB."""

    raw: float
    raw_fanout5: float
    raw_saturated: float
    worker: Mapping[str, float]
    memory_mb: float
    latency: Mapping[int, Latency]
    peers: Mapping[str, float]


@dataclass(frozen=True)
class Bench:
    """Where and with how much one run measures. `environments` are the peers', where they are measured."""

    url: str
    server: Server
    raw: RawClient
    folder: Path
    environments: Path | None
    settings: Settings
    random: Random

    @property
    def port(self) -> int:
        """The server's, for the C client."""
        return int(self.url.rsplit(":", 1)[1])

    async def round(self, number: int) -> Round:
        """Measures everything once; raises InvalidRunError."""
        events = self.settings.events
        since = time.monotonic()

        def say(text: str) -> None:
            print(f"round {number + 1}, {time.monotonic() - since:3.0f} s: {text}", flush=True)

        # A raw run lasts a fraction of a second: three of them, around the worker's, bear with a busy machine.
        raws = [self.raw.deliveries_per_second(self.port, events, 1, 1)]
        rates: dict[str, float] = {}
        memory = 0.0
        for work in WORKS:
            rates[work.name], used = await settle(self, work, number)
            memory = max(memory, used)
            say(f"worker, {work.title}: {rates[work.name]:,.0f} deliveries/s, {used:.1f} MB")
            if work in (PLAIN, FANOUT5):
                raws.append(self.raw.deliveries_per_second(self.port, events, 1, 1))
        raw = statistics.median(raws)
        raw5 = self.raw.deliveries_per_second(self.port, events, 5, 1)
        saturated = self.raw.deliveries_per_second(self.port, events, 1, SATURATED_DEPTH)
        say(f"raw C client {raw:,.0f} deliveries/s, 5 groups {raw5:,.0f}, saturated {saturated:,.0f}")

        latencies: dict[int, Latency] = {}
        for rate in LATENCY_RATES:
            at = latencies[rate] = await latency(self, rate, number)
            say(
                f"publish to handler at {rate}/s: p50 {at.p50:.2f} ms, p99 {at.p99:.2f} ms; "
                f"raw C client {at.raw_p50:.2f} and {at.raw_p99:.2f}"
            )
        peers: dict[str, float] = {}
        for peer in PEERS if self.environments else ():
            peers[peer.name] = await peer_rate(peer, self.environments, self.folder, self.settings.server)
            say(f"{peer.name}: {peers[peer.name]:,.0f} events/s")
        return Round(raw, raw5, saturated, rates, memory, latencies, peers)
