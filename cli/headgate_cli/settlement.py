"""Whether everything of a run is settled, and what is left when it is not: questions to a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.streams import PipelineMeasurement


def is_settled(found: PipelineMeasurement, *, outbox_counts: bool) -> bool:
    """Whether nothing is unsettled, no join open, and nothing emitted on its way (where that counts)."""
    if found.open_joins or (outbox_counts and found.outbox):
        return False
    return all(branch.backlog == 0 for branch in found.branches.values())


def unsettled(found: PipelineMeasurement) -> list[str]:
    """What is left, each in a few words."""
    waiting = [
        f"branch {name}: {branch.backlog} events" for name, branch in found.branches.items() if branch.backlog
    ]
    if found.open_joins:
        waiting.append(f"{found.open_joins} joins")
    if found.outbox:
        waiting.append(f"{found.outbox} emitted events on their way")
    return waiting
