"""What the figures must reach; where one does not, `make bench-autoscale` fails and says which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TO_ORACLE = 1.25
REACTION_SECONDS = 1.0
ZERO_SLACK_SECONDS = 2.0


def missed(figures: Mapping[str, Any]) -> list[str]:
    """Every target that was missed, of those that were measured."""
    said = []
    if "workerSecondsToOracle" in figures:
        said += _simulated(figures)
    if "cluster" in figures:
        said += _on_cluster(figures["cluster"])
    return said


def _simulated(figures: Mapping[str, Any]) -> list[str]:
    said = []
    ratio, share = figures["workerSecondsToOracle"], figures["withinObjective"]
    if ratio > MOST_TO_ORACLE:
        said.append(f"workerSecondsToOracle is {ratio:g}, at most {MOST_TO_ORACLE:g} is asked")
    for name in ("kedaDefault", "kedaTuned"):
        theirs = figures[name]["withinObjective"]
        if share < theirs:
            said.append(f"withinObjective is {share:g}, {name} has {theirs:g}: the same or better is asked")
    return said


def _on_cluster(figures: Mapping[str, Any]) -> list[str]:
    said = [
        f"cluster.{name} is {figures[name]:g}, less than {REACTION_SECONDS:g} is asked"
        for name in ("zeroToOneWorstSeconds", "zeroTo32WorstSeconds")
        if figures[name] >= REACTION_SECONDS
    ]
    over, slack = figures["backToZeroSecondsOverWindow"], ZERO_SLACK_SECONDS
    if over > slack:
        said.append(f"cluster.backToZeroSecondsOverWindow is {over:g}, at most {slack:g} is asked")
    return said
