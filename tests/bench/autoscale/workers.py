"""Simulated workers of one branch: start cold, handle events in order of their publishing, drain when stopped.

Discrete events, exact: a slot of a worker that is free takes the oldest event that waits and is busy for the handler's
seconds. A worker is paid for from when it is asked for until it has gone: its start and its drain included.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(eq=False)
class Worker:
    """One worker: when it was asked for, can work, and has gone (infinite while it stays)."""

    asked: float
    ready: float
    busy_until: list[float] = field(default_factory=list)
    """Of each slot, when its last event is settled."""
    gone: float = float("inf")

    def held(self, now: float) -> int:
        """Events it handles now."""
        return sum(until > now for until in self.busy_until)

    def stop(self, now: float) -> None:
        """Takes nothing more, finishes what it has; one that still starts goes at once."""
        self.gone = max(now, *self.busy_until) if self.ready <= now else now


class Workers:
    """All workers of a branch, and the events they handle."""

    def __init__(
        self, times: list[float], handler_seconds: list[float], concurrency: int, start_seconds: float
    ) -> None:
        self._times = times
        self._handler_seconds = handler_seconds
        self._concurrency = concurrency
        self._start_seconds = start_seconds
        self._taken = 0
        self._slots: list[tuple[float, int, int, Worker]] = []
        """Free slots: from when, a number that makes ties fair and comparable, which of its worker, the worker."""
        self._finishing: list[tuple[float, int]] = []
        self._numbers = 0
        self._all: list[Worker] = []
        self.now = 0.0
        self.ages: list[float] = []
        """Age of each event at its settling."""
        self.busy_seconds = 0.0
        """Handler time of all settled events."""
        self.running: list[Worker] = []
        """Those asked for and not stopped."""

    @property
    def ready(self) -> int:
        """Workers that can work now."""
        return sum(worker.ready <= self.now for worker in self.running)

    @property
    def holders(self) -> int:
        """Workers that handle something now, of those not stopped."""
        return sum(any(until > self.now for until in worker.busy_until) for worker in self.running)

    @property
    def settled(self) -> int:
        """Events handled so far."""
        return len(self.ages)

    def oldest_age(self, now: float) -> float:
        """Age of the oldest event that is published and not settled; 0 without any."""
        oldest = min((event for _, event in self._finishing), default=self._taken)
        return max(0.0, now - self._times[oldest]) if oldest < len(self._times) else 0.0

    def scale(self, replicas: int) -> None:
        """Starts or stops workers; those that start still go first, then those that hold least."""
        while len(self.running) < replicas:
            worker = Worker(self.now, self.now + self._start_seconds, [0.0] * self._concurrency)
            self.running.append(worker)
            self._all.append(worker)
            for slot in range(self._concurrency):
                self._free(worker.ready, slot, worker)
        surplus = len(self.running) - replicas
        if surplus > 0:
            self.running.sort(key=lambda worker: (worker.ready <= self.now, worker.held(self.now)))
            for worker in self.running[:surplus]:
                worker.stop(self.now)
            del self.running[:surplus]

    def advance(self, until: float) -> None:
        """Works on until a time."""
        times, slots = self._times, self._slots
        while self._taken < len(times) and slots:
            free, _, slot, worker = slots[0]
            starts = max(free, times[self._taken])
            if worker.gone != float("inf"):
                heapq.heappop(slots)
                continue
            if starts >= until:
                break
            heapq.heappop(slots)
            ends = starts + self._handler_seconds[self._taken]
            worker.busy_until[slot] = ends
            self._free(ends, slot, worker)
            heapq.heappush(self._finishing, (ends, self._taken))
            self._taken += 1
        self.now = until
        while self._finishing and self._finishing[0][0] <= until:
            at, event = heapq.heappop(self._finishing)
            self.ages.append(at - times[event])
            self.busy_seconds += self._handler_seconds[event]

    def worker_seconds(self) -> float:
        """What was paid for until now."""
        return sum(min(worker.gone, self.now) - worker.asked for worker in self._all)

    def _free(self, since: float, slot: int, worker: Worker) -> None:
        self._numbers += 1
        heapq.heappush(self._slots, (since, self._numbers, slot, worker))
