"""A total of workers for each namespace: who claims how many, and how many a branch may be given now.

The pilot decides branch by branch. So a claim holds until it is renewed, and what others run is never promised away:
a branch that is short waits until those above their share have gone down, which they do at their next decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from headgate_operator.fair_share import Claim, shares

CLAIM_SECONDS = 60.0  # a claim that is not renewed for this long is of a branch that is gone
SHARED_SECONDS = 0.5  # shares of a namespace in want are computed no more often than this


class Claimant(NamedTuple):
    """A branch of a namespace."""

    pipeline: str
    branch: str


@dataclass
class _Namespace:
    claims: dict[Claimant, Claim] = field(default_factory=dict)
    renewed: dict[Claimant, float] = field(default_factory=dict)
    wanted: int = 0
    running: int = 0
    shares: dict[Claimant, int] = field(default_factory=dict)
    shared: float = float("-inf")
    swept: float = float("-inf")

    def put(self, who: Claimant, claim: Claim | None) -> None:
        """With this claim instead of the one before."""
        if before := self.claims.pop(who, None):
            self.wanted -= before.wanted
            self.running -= before.running
        if claim is not None:
            self.claims[who] = claim
            self.wanted += claim.wanted
            self.running += claim.running


class Totals:
    """At most `total` workers in any namespace; 0 is no limit."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._namespaces: dict[str, _Namespace] = {}

    def grant(self, namespace: str, who: Claimant, claim: Claim, now: float) -> int:
        """How many of the workers it wants a branch may be given now."""
        if not self.total:
            return claim.wanted
        place = self._namespaces.setdefault(namespace, _Namespace())
        self._sweep(place, now)
        place.put(who, claim)
        place.renewed[who] = now
        allowed = claim.wanted
        if place.wanted > self.total:
            if now - place.shared >= SHARED_SECONDS or who not in place.shares:
                place.shares, place.shared = shares(self.total, place.claims), now
            allowed = min(allowed, place.shares[who])
        # Others may still run what is not their share any more; what this one runs of its own it keeps meanwhile.
        spare = self.total - (place.running - claim.running)
        allowed = min(allowed, max(spare, claim.running, 0))
        place.put(who, Claim(claim.wanted, claim.least, allowed))
        return allowed

    def note(self, namespace: str, who: Claimant, running: int, now: float) -> None:
        """Takes in the workers of a branch about which nothing can be decided now, or not here."""
        if self.total:
            place = self._namespaces.setdefault(namespace, _Namespace())
            place.put(who, Claim(running, running, running))
            place.renewed[who] = now

    def _sweep(self, place: _Namespace, now: float) -> None:
        if now - place.swept < CLAIM_SECONDS:
            return
        place.swept = now
        for who in [who for who, at in place.renewed.items() if now - at > CLAIM_SECONDS]:
            place.put(who, None)
            del place.renewed[who]
