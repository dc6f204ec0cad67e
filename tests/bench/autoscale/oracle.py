"""The least worker-seconds with which a trace's events could be settled in time by somebody who knows the future.

A dynamic program over whole seconds gives the exact optimum of a problem that is easier than the real one, so no
scaler that changes workers at whole seconds and settles as large a share in time can do with less. What is easier:

- Work is a fluid, in units of what one worker does in a second. An event published within second j may be worked on
  from the start of j, and is in time until the end of second j + objective. Each second, n workers take up to n units;
  oldest first is optimal, as whoever comes first is due first. Whole units suffice: where real amounts c(t) of work
  done keep `due(t) <= c(t) <= come(t)` and grow by at most n(t), so do floor(c(t)) and the bounds rounded down,
  because n(t) is whole.
- A worker costs its seconds of work and, each time it is started, `start` seconds. It starts before it is needed,
  drains in no time, and hands over what it has begun.
- Units that may be late need not be done at all. Their number is held down by a price each, `start` + 1: the
  optimum with that price, less the price of the units allowed, is a lower bound for any price (weak duality), and with
  this one it is tight where none is allowed, as a worker started for a single unit costs no more.

State: workers in the last second (0..max) and units done beyond what was due. Doing work as soon as it can be done is
never worse. Each second: workers change (a start costs, a stop does not), work, pay; then what is due and undone is
dropped at its price.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.autoscale.traces import Trace


def least_worker_seconds(trace: Trace, handler_seconds: Sequence[float], late: int) -> float:
    """The bound for a trace of which `late` events may miss the objective; each event's handler takes what is given.

    Raises ValueError when `max` workers cannot settle the other events in time.
    """
    branch = trace.branch
    come, total, event = [], 0.0, 0
    for count in trace.arrivals:
        total += sum(handler_seconds[event : event + count]) / branch.concurrency
        event += count
        come.append(total)
    longest = sorted(handler_seconds, reverse=True)[:late]
    return least_cost(
        come,
        objective=math.ceil(branch.objective_seconds),
        most=branch.max,
        start=branch.start_seconds,
        late=math.ceil(sum(longest) / branch.concurrency),
    )


def least_cost(come: Sequence[float], *, objective: int, most: int, start: float, late: int = 0) -> float:
    """The same in units of work: `come` is what had come by the end of each second, `late` units may miss it."""
    arrived = [math.floor(amount + 1e-9) for amount in come]
    arrived += [arrived[-1]] * objective
    due = [0] * objective + arrived[: len(come)]
    price = start + 1 if late else math.inf
    ahead = max(a - d for a, d in zip(arrived, [0, *due], strict=False))  # units done and not due, at most
    workers = np.arange(most + 1, dtype=np.float64)[:, None]
    # Work moves a row's costs by its number of workers to the right; what was left of the first column is impossible.
    shift = np.arange(ahead + 1)[None, :] - np.arange(most + 1)[:, None]
    impossible = shift < 0
    shift = np.where(impossible, 0, shift)
    cost = np.full((most + 1, ahead + 1), np.inf)
    cost[0, 0] = 0.0
    past = 0
    for there, deadline in zip(arrived, due, strict=True):
        fewer = np.minimum.accumulate(cost[::-1], axis=0)[::-1]
        more = np.minimum.accumulate(cost - start * workers, axis=0) + start * workers
        cost = np.minimum(fewer, more) + workers
        room = there - past
        # Nobody works on what has not come: those who would, end where everything is done.
        at_most = np.minimum.accumulate(cost[:, ::-1], axis=1)[:, ::-1]
        full = at_most[np.arange(most + 1), np.maximum(room - np.arange(most + 1), 0)]
        cost = np.take_along_axis(cost, shift, axis=1)
        cost[impossible] = np.inf
        cost[:, room] = full
        cost[:, room + 1 :] = np.inf
        cost = _pass(cost, deadline - past, price)
        past = deadline
    least = float(cost.min()) - (price * late if late else 0.0)
    if math.isinf(least):
        raise ValueError(f"max: {most} workers cannot settle every event within {objective} s; raise it")
    return max(least, 0.0)


def _pass(cost: np.ndarray, units: int, price: float) -> np.ndarray:
    """The costs once so many units more are due: those undone are dropped at their price."""
    if units == 0:
        return cost
    undone = np.arange(min(units, cost.shape[1] - 1), -1, -1) + max(0, units - cost.shape[1] + 1)
    dropped = cost[:, : len(undone)] + np.where(undone > 0, price * np.maximum(undone, 1), 0.0)
    passed = np.full_like(cost, np.inf)
    if units < cost.shape[1]:
        passed[:, : cost.shape[1] - units] = cost[:, units:]
    passed[:, 0] = dropped.min(axis=1)
    return passed
