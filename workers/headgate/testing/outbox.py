"""What handlers emitted to pipelines that are not in a test's manifest: it stays in the outboxes, to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.effects import Emit
from headgate.event import Lane, NewEvent, from_fields
from headgate.streams.outcome import split_netstrings

if TYPE_CHECKING:
    from headgate.streams import PipelineKeys, Server


class Left(NamedTuple):
    """An entry of an outbox: the pipeline it is for as namespace/name, what it is, and its parts."""

    to: str
    kind: str
    packed: bytes

    def emitted(self) -> Emit:
        """What a handler emitted, with the id it was given."""
        _, lane, _, packed = split_netstrings(self.packed)
        event = from_fields(b"0-0", split_netstrings(packed), list(Lane)[int(lane) - 1], 0)
        return Emit(
            NewEvent(
                data=event.data,
                id=event.id,
                type=event.type,
                source=event.source,
                key=event.key,
                lane=event.lane,
                traceparent=event.traceparent,
            ),
            self.to,
        )


async def read_outbox(server: Server, keys: PipelineKeys) -> list[Left]:
    """Everything in the outboxes of a pipeline, in order within each partition. Raises ServerUnavailableError."""
    found: list[Left] = []
    for partition in keys.all:
        entries = await server.execute(partition.outbox, "XRANGE", partition.outbox, "-", "+")
        found += [
            Left(fields[b"to"].decode(), fields[b"kind"].decode(), fields[b"packed"]) for _, fields in entries
        ]
    return found
