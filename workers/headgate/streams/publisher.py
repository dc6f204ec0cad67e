"""Publishing: events into the lanes of their partitions, once each within the dedupe window."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import Lane, NewEvent, to_fields
from headgate.streams.errors import NotProvisionedError
from headgate.streams.keys import PipelineKeys
from headgate.streams.script import PUBLISH
from headgate.streams.server import Call, Server
from headgate.streams.settings import FIELDS, SourceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_LANE_NUMBER = {Lane.HIGH: 1, Lane.NORMAL: 2, Lane.LOW: 3}
_BATCH = 100  # events a script call: long enough to be cheap, short enough to leave the server to others


class Receipt(msgspec.Struct, frozen=True):
    """Where an event went. A duplicate names the entry of the first."""

    id: str
    partition: int
    entry: str
    duplicate: bool


async def find_pipeline(server: Server, namespace: str, pipeline: str) -> tuple[PipelineKeys, SourceSettings]:
    """The keys of a pipeline on this server, and what its manifest says of its source.

    Raises NotProvisionedError when there is none of that name, ServerUnavailableError.
    """
    name = PipelineKeys(namespace, pipeline).partition(0).settings
    partitions, *fields = await server.execute(name, "HMGET", name, "partitions", *FIELDS)
    if partitions is None:
        raise NotProvisionedError(
            f"no pipeline {namespace}/{pipeline} on this server: apply or run its manifest first"
        )
    return PipelineKeys(namespace, pipeline, int(partitions)), SourceSettings.from_fields(fields)


class Publisher:
    """Publishes into one pipeline.

    A publish that raised may be repeated with the same ids: within the dedupe window it adds nothing. An event
    without an id gets a random one, so that a lost reply that the client library asks again for writes once too.
    """

    def __init__(
        self,
        server: Server,
        keys: PipelineKeys,
        dedupe_window_seconds: float = 600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._keys = keys
        self._window_ms = int(dedupe_window_seconds * 1000)
        self._clock = clock

    @classmethod
    async def open(cls, server: Server, namespace: str, pipeline: str) -> Publisher:
        """A publisher with the partitions and dedupe window that the pipeline's manifest says.

        Raises NotProvisionedError when the pipeline is not on this server, ServerUnavailableError.
        """
        keys, settings = await find_pipeline(server, namespace, pipeline)
        return cls(server, keys, settings.dedupe_window_seconds)

    async def publish(self, events: Sequence[NewEvent]) -> list[Receipt]:
        """Publishes events, in order within a partition; gives a receipt for each, in the order given.

        Raises TypeError when an event's data is nothing JSON can carry (then nothing is published),
        ServerUnavailableError when the server cannot be reached (then some may be).
        """
        now_ms = int(self._clock() * 1000)
        by_partition: dict[int, list[tuple[int, str, list[Any]]]] = {}
        for place, event in enumerate(events):
            event_id = event.id or uuid.uuid4().hex
            fields = to_fields(event, event_id, now_ms)
            number = self._keys.partition_of(event.key if event.key is not None else event_id)
            part = [_LANE_NUMBER[event.lane], event_id, len(fields), *fields]
            by_partition.setdefault(number, []).append((place, event_id, part))

        calls: list[Call] = []
        batches: list[tuple[int, list[tuple[int, str, list[Any]]]]] = []
        for number, parts in by_partition.items():
            keys = self._keys.partition(number)
            for start in range(0, len(parts), _BATCH):
                batch = parts[start : start + _BATCH]
                args = [value for _, _, part in batch for value in part]
                calls.append(Call(PUBLISH, (*keys.lanes, keys.dedupe("")), (self._window_ms, *args)))
                batches.append((number, batch))

        receipts: list[Receipt | None] = [None] * len(events)
        for (number, batch), reply in zip(batches, await self._server.run_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            for at, (place, event_id, _) in enumerate(batch):
                entry, seen = reply[2 * at].decode(), reply[2 * at + 1]
                receipts[place] = Receipt(event_id, number, entry, duplicate=bool(seen))
        return [receipt for receipt in receipts if receipt is not None]
