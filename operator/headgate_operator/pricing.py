"""When the pods of a branch that KEDA or an autoscaler scales are told apart by what they hold: a pure decision.

The pilot prices pods before it asks for fewer. Others ask when they like, so pods are priced while fewer are wanted
than there are, whenever what they hold has changed. Not for ever, as an autoscaler leaves a difference of a tenth as
it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

AGAIN_SECONDS = (
    5.0  # a third of an autoscaler's period: each pricing is a list of pods, and a write a pod that changed
)
FOLLOW_SECONDS = 60.0  # four periods of an autoscaler: who has not followed by then is content with what runs


@dataclass(frozen=True)
class Prices:
    """What the pods of a branch were last priced by, and when on the caller's clock."""

    held: Mapping[str, int] | None = None
    """Events by worker, of those that held any; None before the first time."""
    at: float = float("-inf")
    wanted: int = 0
    """The fewest workers wanted since `since`."""
    since: float | None = None
    """Since when so few are wanted; None while no fewer are wanted than there are."""


def decide(
    last: Prices, wanted: int, running: int, holding: Mapping[str, int], now: float
) -> tuple[Prices, bool]:
    """What to remember, and whether to price the pods now by `holding`, the events that each worker holds."""
    if wanted >= running:
        return replace(last, since=None), False
    since = last.since
    if since is None or wanted < last.wanted:
        since = now
        last = replace(last, wanted=wanted, since=since)
    held = {worker: events for worker, events in holding.items() if events}
    if held == last.held or now > since + FOLLOW_SECONDS or now < max(since, last.at + AGAIN_SECONDS):
        return last, False
    return replace(last, held=held, at=now), True
