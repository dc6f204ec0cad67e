"""Publishing: events into the lanes of their partitions, once each within the dedupe window."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import InvalidEventError, Lane, NewEvent, to_fields
from headgate.streams.backpressure import BackpressureError, OnBackpressure, pause_seconds
from headgate.streams.durability import Replicated, ReplicatedCalls
from headgate.streams.errors import (
    NotProvisionedError,
    ServerRefusedError,
    ServerUnavailableError,
    StreamsError,
)
from headgate.streams.gate import Rejection
from headgate.streams.keys import PipelineKeys
from headgate.streams.script import PUBLISH
from headgate.streams.server import Call, Server
from headgate.streams.settings import FIELDS, SourceSettings
from headgate.tracing import current_traceparent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.schema import Schema

    _Part = tuple[int, str, list[Any]]  # an event's place, its id, and what publish.lua is told of it

_LANE_NUMBER = {Lane.HIGH: 1, Lane.NORMAL: 2, Lane.LOW: 3}
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5)
_REFUSED = 2  # publish.lua's word for an event of a rejected lane
_BATCH = 100  # events a script call: long enough to be cheap, short enough to leave the server to others


class Receipt(msgspec.Struct, frozen=True):
    """Where an event went. A duplicate names the entry of the first."""

    id: str
    partition: int
    entry: str
    duplicate: bool


class RefusedEventError(InvalidEventError):
    """An event to publish does not conform to the source's schema: says which, where and why.

    Nothing of what was to be published with it was. `place` is its place among them, `reason` what is wrong.
    """

    def __init__(self, place: int, event_id: str | None, reason: str) -> None:
        super().__init__(f"event {place}{f' (id {event_id!r})' if event_id else ''}: {reason}")
        self.place = place
        self.reason = reason


class NotReplicatedError(StreamsError):
    """Published, but fewer replicas than wanted had it in time: a failover now may lose it.

    Publishing the same ids again is right: what is there adds nothing, and is waited for. `receipts` has the ids.
    """

    def __init__(self, receipts: list[Receipt], acknowledged: int, wanted: Replicated) -> None:
        super().__init__(
            f"{acknowledged} of {wanted.replicas} replicas have what was published, after"
            f" {wanted.timeout_seconds:g} s: see whether they are connected, and publish the same ids again"
        )
        self.receipts = receipts
        self.acknowledged = acknowledged


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
    without an id gets a random one. So while the server cannot be reached, as in a failover, a publish repeats
    itself for `retry_seconds`; a receipt may then say duplicate of what this very publish wrote. With a dedupe
    window of 0 a repetition would write twice: then it raises at once.

    Events of a lane that a level of backpressure rejects are not taken, but for ids published before: with
    `on_backpressure` "raise" a publish raises BackpressureError, with "wait" it waits until they are taken, however
    long that is (put `asyncio.timeout` around it).
    """

    def __init__(
        self,
        server: Server,
        keys: PipelineKeys,
        dedupe_window_seconds: float = 600,
        clock: Callable[[], float] = time.time,
        *,
        durability: Replicated | None = None,
        retry_seconds: float = 10,
        schema: Schema | None = None,
        on_backpressure: OnBackpressure | str = OnBackpressure.RAISE,
    ) -> None:
        self._server = server
        self._keys = keys
        self._window_ms = int(dedupe_window_seconds * 1000)
        self._clock = clock
        self._durability = durability
        self._schema = schema
        self._replicated = None if durability is None else ReplicatedCalls(server, durability)
        self._retry_seconds = retry_seconds if self._window_ms else 0.0
        self._on_backpressure = OnBackpressure(on_backpressure)

    @classmethod
    async def open(
        cls,
        server: Server,
        namespace: str,
        pipeline: str,
        *,
        retry_seconds: float = 10,
        on_backpressure: OnBackpressure | str = OnBackpressure.RAISE,
    ) -> Publisher:
        """A publisher with the partitions, dedupe window, durability and schema that the pipeline's manifest says.

        Raises NotProvisionedError when the pipeline is not on this server, ServerUnavailableError, SchemaError.
        """
        keys, settings = await find_pipeline(server, namespace, pipeline)
        durability = Replicated(settings.replicas, settings.wait_seconds) if settings.replicas else None
        schema: Schema | None = None
        if settings.schema is not None:
            from headgate.schema import compile_schema  # noqa: PLC0415 - a source without one does not pay

            schema = compile_schema(settings.schema)
        window = settings.dedupe_window_seconds
        return cls(
            server,
            keys,
            window,
            durability=durability,
            schema=schema,
            retry_seconds=retry_seconds,
            on_backpressure=on_backpressure,
        )

    async def publish(self, events: Sequence[NewEvent]) -> list[Receipt]:
        """Publishes events, in order within a partition and lane; gives a receipt for each, in the order given.

        Events are written in calls of a hundred, each of them whole or not at all. A rejection that begins or ends
        between two calls refuses the events of some: those come later than what was taken, when they are taken.
        An event without a traceparent gets that of the current OpenTelemetry span, if there is one.

        Raises TypeError when an event's data is nothing JSON can carry and RefusedEventError when it does not conform
        to the source's schema (then nothing is published), ServerUnavailableError when the server cannot be reached
        (then some may be), NotReplicatedError, BackpressureError (then the events of lanes that flow are).
        """
        now_ms = int(self._clock() * 1000)
        traceparent = current_traceparent()
        waiting: dict[int, list[_Part]] = {}
        for place, event in enumerate(events):
            event_id = event.id or uuid.uuid4().hex
            fields = to_fields(event, event_id, now_ms, traceparent)
            if self._schema is not None:
                _check(self._schema, place, event, fields[1])
            number = self._keys.partition_of(event.key if event.key is not None else event_id)
            part = [_LANE_NUMBER[event.lane], event_id, len(fields), *fields]
            waiting.setdefault(number, []).append((place, event_id, part))

        receipts: list[Receipt | None] = [None] * len(events)
        least: int | None = None
        while waiting:
            waiting, rejection, replicas = await self._write(waiting, receipts)
            if replicas is not None:
                least = replicas if least is None else min(least, replicas)
            if rejection is None or self._on_backpressure is OnBackpressure.RAISE:
                break
            await asyncio.sleep(pause_seconds(rejection))
        given = [receipt for receipt in receipts if receipt is not None]
        if least is not None and self._durability is not None and least < self._durability.replicas:
            raise NotReplicatedError(given, least, self._durability)
        if waiting and rejection is not None:
            raise BackpressureError(rejection, receipts)
        return given

    async def _write(
        self, waiting: dict[int, list[_Part]], receipts: list[Receipt | None]
    ) -> tuple[dict[int, list[_Part]], Rejection | None, int | None]:
        """Writes events, by partition, and their receipts to their places.

        Gives those that were refused, what refuses them, and how many replicas have the others (None: there are none).
        """
        calls: list[Call] = []
        batches: list[tuple[int, list[_Part]]] = []
        for number, parts in waiting.items():
            keys = self._keys.partition(number)
            for start in range(0, len(parts), _BATCH):
                batch = parts[start : start + _BATCH]
                args = [value for _, _, part in batch for value in part]
                told = (self._window_ms, 0 if self._replicated is None else 1, *args)
                names = (*keys.lanes, keys.dedupe(""), keys.rejection)
                calls.append(Call(PUBLISH, names, told, repeatable=self._window_ms > 0))
                batches.append((number, batch))

        refused: dict[int, list[_Part]] = {}
        rejection: Rejection | None = None
        replicas: int | None = None
        for (number, batch), (reply, had) in zip(batches, await self._run_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            for at, part in enumerate(batch):
                said, outcome = reply[2 * at].decode(), reply[2 * at + 1]
                if outcome == _REFUSED:
                    rejection = Rejection.decode(said)
                    refused.setdefault(number, []).append(part)
                else:
                    replicas = had if replicas is None else min(replicas, had)
                    receipts[part[0]] = Receipt(part[1], number, said, duplicate=bool(outcome))
        return refused, rejection, replicas

    async def _run_all(self, calls: Sequence[Call]) -> list[tuple[Any, int]]:
        """Every call's reply, and how many replicas have it; asks again where a server may come back."""
        found: list[tuple[Any, int]] = [(None, 0)] * len(calls)
        asking = list(range(len(calls)))
        until = time.monotonic() + self._retry_seconds
        attempt = 0
        while asking:
            for place, reply in zip(asking, await self._ask([calls[at] for at in asking]), strict=True):
                found[place] = reply
            asking = [place for place in asking if _may_come_back(found[place][0])]
            if not asking or time.monotonic() >= until:
                break
            await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            attempt += 1
            with contextlib.suppress(ServerUnavailableError):
                await self._server.rediscover()
        return found

    async def _ask(self, calls: Sequence[Call]) -> list[tuple[Any, int]]:
        try:
            if self._replicated is not None:
                return await self._replicated.run_all(calls)
            return [(reply, 0) for reply in await self._server.run_all(calls)]
        except ServerUnavailableError as error:
            return [(error, 0)] * len(calls)


def _check(schema: Schema, place: int, event: NewEvent, body: bytes) -> None:
    """Checks what workers will read, which is not always what it was made of: a date is a string by then."""
    try:
        schema.check(msgspec.json.decode(body))
    except InvalidEventError as error:
        raise RefusedEventError(place, event.id, str(error)) from error


def _may_come_back(reply: Any) -> bool:
    return isinstance(reply, ServerUnavailableError) and not isinstance(reply, ServerRefusedError)
