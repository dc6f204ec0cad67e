"""Workers of a namespace that has a total, divided among its branches: a pure function.

Max-min fairness: nobody gets more than they want, and whoever gets less than they want has at least as many as anybody
who got more than their minimum. Minimums come first, in the same way. Nobody's share depends on what they run now, but
for the last worker that cannot be divided: it stays where it is, so that nothing flaps.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Claim:
    """What one branch wants of a namespace's total."""

    wanted: int
    least: int = 0
    """Its minimum; no more than it wants counts."""
    running: int = 0
    """Workers asked for now."""


def shares(total: int, claims: Mapping[Name, Claim]) -> dict[Name, int]:
    """How many workers each may have; together no more than `total`, and all of it while more is wanted."""
    first = _fill(total, {name: min(claim.least, claim.wanted) for name, claim in claims.items()}, {}, claims)
    wanted = {name: claim.wanted for name, claim in claims.items()}
    return _fill(total, wanted, first, claims)


def _fill(
    total: int, wanted: Mapping[Name, int], given: Mapping[Name, int], claims: Mapping[Name, Claim]
) -> dict[Name, int]:
    """Water-filling: the lowest rise together, from what is `given`, up to what each wants, while there is any."""
    share = {name: given.get(name, 0) for name in wanted}
    left = total - sum(share.values())
    level = 0
    while left > 0:
        rising = [name for name in wanted if share[name] < wanted[name]]
        if not rising:
            break
        level = min(share[name] for name in rising)
        lowest = [name for name in rising if share[name] == level]
        above = min([share[name] for name in rising if share[name] > level], default=total + level + 1)
        room = min(above, *(wanted[name] for name in lowest)) - level
        step = min(room, left // len(lowest))
        if step == 0:
            # Fewer are left than there are to divide them among: where they run already, then to whom wants most.
            lowest.sort(key=lambda name: (claims[name].running <= level, -claims[name].wanted))
            for name in lowest[:left]:
                share[name] += 1
            break
        for name in lowest:
            share[name] += step
        left -= step * len(lowest)
    return share
