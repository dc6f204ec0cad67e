"""How fast a branch must work so that no waiting event gets older than is allowed.

Events are taken in the order they came, so each has a time by which all before it must be done. The least constant
speed that keeps every such time: "Optimal Available" of Yao, Demers and Shenker, A scheduling model for reduced CPU
energy, 1995.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_operator.autoscale.rates import Arrivals

MARGIN_SECONDS = 1.0  # between two looks
LATE_SHARE = 0.25  # of the age allowed: within this, what can no longer be in time is worked off


def speed_for_age(
    arrivals: Arrivals,
    *,
    now: float,
    workable: int,
    able: float,
    start: float,
    handler: float,
    max_age: float,
) -> float:
    """Events a second to settle from now on, so that each of the `workable` is settled before it is `max_age` old.

    `able` is what the workers there settle a second; to be faster takes new ones, who `start` first. A `handler` takes
    its seconds in any case.
    """
    if not arrivals.marks:
        return 0.0
    published, needed = arrivals.marks[-1][1], 0.0
    for at, count in reversed(arrivals.marks):
        due = workable - (published - count)  # events that came until `at` and are not settled
        if due <= 0:
            break
        left = at + max_age - now - handler - MARGIN_SECONDS
        speed = due / max(left, MARGIN_SECONDS)
        if speed > able:
            # Those that cannot be in time any more take what is there, and are no reason for ever so many more.
            new = max(left - start, max_age * LATE_SHARE)
            speed = max(able, (due - able * start) / new)
        needed = max(needed, speed)
    return needed
