"""Whether everything of a run is settled, and what is left when it is not: questions to a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.streams import NotProvisionedError, find_pipeline

if TYPE_CHECKING:
    from headgate.streams import PipelineKeys, PipelineMeasurement, Server

_PAGE = 1000


def is_settled(found: PipelineMeasurement, *, outbox_counts: bool) -> bool:
    """Whether nothing is unsettled, no join open, and nothing emitted on its way (where that counts)."""
    if found.open_joins or (outbox_counts and found.outbox):
        return False
    return all(branch.backlog == 0 for branch in found.branches.values())


async def on_their_way(server: Server, keys: PipelineKeys) -> bool:
    """Whether an outbox has anything for a pipeline of this server; raises ServerUnavailableError."""
    is_here: dict[str, bool] = {}
    for partition in keys.all:
        outbox, start = partition.outbox, "-"
        while page := await server.execute(outbox, "XRANGE", outbox, start, "+", "COUNT", _PAGE):
            for name in {fields[b"to"].decode() for _, fields in page} - is_here.keys():
                try:
                    await find_pipeline(server, *name.split("/", 1))
                    is_here[name] = True
                except NotProvisionedError:
                    is_here[name] = False
            if any(is_here.values()):
                return True
            start = f"({page[-1][0].decode()}"
    return False


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
