"""From what was seen to a rate or a percentile; a run that lost, doubled or hardly timed anything gives none."""

from __future__ import annotations

import statistics
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WARM_UP_SHARE = 0.05
LATENCY_WARM_UP_SECONDS = 1.0


class InvalidRunError(RuntimeError):
    """A round's figures mean nothing: says what was lost, doubled or late."""


def warm_part(seen: Sequence[tuple[int, int]]) -> tuple[int, float]:
    """Events and seconds of what was seen, without the first twentieth of the events; raises InvalidRunError.

    `seen` are a clock's ms and the events done by then. The last look is left out too where others are left: it comes
    some time after the last event was done.
    """
    events = seen[-1][1]
    warm = [at for at in seen if at[1] >= events * WARM_UP_SHARE]
    (warm_ms, before), (end_ms, done) = warm[0], warm[-2] if len(warm) > 2 else warm[-1]
    if warm_ms >= end_ms:
        raise InvalidRunError(f"{events} events are too few to time; give --events a larger number")
    return done - before, (end_ms - warm_ms) / 1000


def percentiles(arrivals: Path, published: int) -> tuple[float, float]:
    """p50 and p99 in ms of what was written down, without the first second; raises InvalidRunError.

    The file holds two 64-bit numbers an event: when it was due, in ns, and how many ns later it arrived.
    """
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
