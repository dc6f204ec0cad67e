"""How many workers the figures of one moment call for, whatever is there: a part for what arrives, one for what waits.

    (arrival rate + waiting / drainWithinSeconds) / measured rate of one worker

and at least what settles every waiting event before it is older than `maxAgeSeconds` (see `autoscale.age`). Waiting is
what no worker holds yet, and what will have come by the time that workers asked for now can work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate_operator.autoscale.age import speed_for_age

if TYPE_CHECKING:
    from headgate_operator.autoscale.inputs import ScaleLimits, ScalerInputs
    from headgate_operator.autoscale.rates import Arrivals, WorkerRate

TOLERANCE = (
    0.05  # a need this little above what is there is met by what is there: the backlog tells if it is not
)


class Need(NamedTuple):
    """Workers, as a number that is not whole yet: `arriving` of them for what arrives; and why, as a reason word."""

    workers: float
    arriving: float
    reason: str
    why: str


def need(
    inputs: ScalerInputs, limits: ScaleLimits, arrivals: Arrivals, rate: WorkerRate, start: float
) -> Need:
    """What this moment calls for; workers take `start` seconds until they can work."""
    speed = rate.per_second(limits.concurrency)
    if speed is None:
        # Nothing was ever handled: a slot for each event is the only guess that cannot be too slow. Where the filter
        # has dropped n of n, the next one passes by a chance of one in n + 1 or so.
        slots = inputs.workable / (1 + rate.handled) / limits.concurrency
        passing = " that the filter may pass" if rate.handled else ""
        return Need(slots, 0.0, "Backlog", f"for a slot for each event{passing}, as none was handled yet")
    most = limits.events_per_second
    arriving, able = min(arrivals.per_second, most), min(inputs.ready * speed, most)
    # More workers do nothing for events that are in a handler already.
    waiting = max(0, inputs.workable - inputs.ready * limits.concurrency)
    coming = max(0.0, (arriving - able) * start) if waiting else 0.0
    draining = (waiting + coming) / limits.drain_within_seconds
    wanted = min(arriving + draining, most)
    reason = "Backlog" if draining > arriving else "Arrivals"
    why = (
        f"to work off what waits within {limits.drain_within_seconds:g} s" if draining else "for what arrives"
    )
    if limits.max_age_seconds is not None and waiting:
        aged = speed_for_age(
            arrivals,
            now=inputs.now,
            workable=inputs.workable,
            able=able,
            start=start,
            handler=rate.handler_seconds or 0.0,
            max_age=limits.max_age_seconds,
        )
        if min(aged, most) > wanted:
            wanted, reason = min(aged, most), "Age"
            why = f"for no event to get older than {limits.max_age_seconds:g} s"
    workers = wanted / speed
    if inputs.current < workers <= inputs.current * (1 + TOLERANCE):
        workers = float(inputs.current)
    return Need(workers, arriving / speed, reason, why)
