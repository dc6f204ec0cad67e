"""Publishing: events into the lanes of their partitions, once each within the dedupe window."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headgate.event import InvalidEventError, Lane, NewEvent, to_fields
from headgate.streams.backpressure import BackpressureError, OnBackpressure, pause_seconds
from headgate.streams.durability import Replicated, ReplicatedCalls
from headgate.streams.errors import (
    ServerRefusedError,
    ServerUnavailableError,
)
from headgate.streams.finding import find
from headgate.streams.gate import Rejection
from headgate.streams.homes import Homes, MovedError
from headgate.streams.receipts import NotReplicatedError, Receipt, RefusedEventError
from headgate.streams.script import PUBLISH
from headgate.streams.server import Call, Server
from headgate.tracing import current_traceparent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.schema import Schema
    from headgate.streams.keys import PipelineKeys

    _Part = tuple[
        int, str, str, list[Any]
    ]  # an event's place, id, key or id, and what publish.lua is told of it

_LANE_NUMBER = {Lane.HIGH: 1, Lane.NORMAL: 2, Lane.LOW: 3}
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5)
_MOVED = -1  # publish.lua's word for a batch that may belong elsewhere
_MOVING_SECONDS = (
    10.0  # to the end of a change of partitions, which takes milliseconds while the operator lives
)
_REFUSED = 2  # publish.lua's word for an event of a rejected lane
_BATCH = 100  # events a script call: long enough to be cheap, short enough to leave the server to others


class _Written(NamedTuple):
    """What was not written, what refuses it, and how many replicas have the rest (None: there is none).

    `moved`: a partition knows of more partitions by now.
    """

    left: list[_Part]
    rejection: Rejection | None = None
    replicas: int | None = None
    moved: bool = False


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
        grown: str = "",
        numbers: tuple[int, ...] = (),
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
        self._homes = Homes(server, grown, dedupe_window_seconds, numbers)

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
        found = await find(server, namespace, pipeline)
        settings = found.settings
        durability = Replicated(settings.replicas, settings.wait_seconds) if settings.replicas else None
        schema: Schema | None = None
        if settings.schema is not None:
            from headgate.schema import compile_schema  # noqa: PLC0415 - a source without one does not pay

            schema = compile_schema(settings.schema)
        window = settings.dedupe_window_seconds
        return cls(
            server,
            found.keys,
            window,
            durability=durability,
            schema=schema,
            retry_seconds=retry_seconds,
            on_backpressure=on_backpressure,
            grown=found.grown,
            numbers=found.numbers,
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
        waiting: list[_Part] = []
        for place, event in enumerate(events):
            event_id = event.id or uuid.uuid4().hex
            fields = to_fields(event, event_id, now_ms, traceparent)
            if self._schema is not None:
                _check(self._schema, place, event, fields[1])
            route = event.key if event.key is not None else event_id
            part = [_LANE_NUMBER[event.lane], event_id, len(fields), *fields]
            waiting.append((place, event_id, route, part))

        receipts: list[Receipt | None] = [None] * len(events)
        least: int | None = None
        until = time.monotonic() + _MOVING_SECONDS
        while waiting:
            waiting, rejection, replicas, moved = await self._write(waiting, receipts)
            if replicas is not None:
                least = replicas if least is None else min(least, replicas)
            if moved:
                await self._follow(until)
                continue
            if rejection is None or self._on_backpressure is OnBackpressure.RAISE:
                break
            await asyncio.sleep(pause_seconds(rejection))
        given = [receipt for receipt in receipts if receipt is not None]
        if least is not None and self._durability is not None and least < self._durability.replicas:
            raise NotReplicatedError(given, least, self._durability)
        if waiting and rejection is not None:
            raise BackpressureError(rejection, receipts)
        return given

    async def _write(self, waiting: list[_Part], receipts: list[Receipt | None]) -> _Written:
        """Writes events, and their receipts to their places."""
        pipeline = self._keys
        try:
            by_partition = await self._route(pipeline, waiting, receipts)
        except MovedError:
            return _Written(waiting, moved=True)
        calls: list[Call] = []
        batches: list[tuple[int, list[_Part]]] = []
        for number, parts in by_partition.items():
            for start in range(0, len(parts), _BATCH):
                batch = parts[start : start + _BATCH]
                calls.append(self._call(pipeline, number, [value for part in batch for value in part[3]]))
                batches.append((number, batch))

        left: list[_Part] = []
        rejection: Rejection | None = None
        replicas: int | None = None
        moved = False
        for (number, batch), (reply, had) in zip(batches, await self._run_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            if reply[0] == _MOVED:
                moved = True
                left += batch
                continue
            for at, part in enumerate(batch):
                said, outcome = reply[2 * at].decode(), reply[2 * at + 1]
                if outcome == _REFUSED:
                    rejection = Rejection.decode(said)
                    left.append(part)
                else:
                    replicas = had if replicas is None else min(replicas, had)
                    receipts[part[0]] = Receipt(part[1], number, said, duplicate=bool(outcome))
        return _Written(sorted(left, key=lambda part: part[0]), rejection, replicas, moved)

    async def _route(
        self, pipeline: PipelineKeys, waiting: list[_Part], receipts: list[Receipt | None]
    ) -> dict[int, list[_Part]]:
        """Events by the partition they belong to, but for those that were published before there were so many."""
        seen = await self._homes.seen(pipeline, [(event_id, route) for _, event_id, route, _ in waiting])
        by_partition: dict[int, list[_Part]] = {}
        for part in waiting:
            if before := seen.get(part[1]):
                receipts[part[0]] = Receipt(part[1], before.partition, before.entry, duplicate=True)
            else:
                by_partition.setdefault(self._homes.home(pipeline, part[2]), []).append(part)
        return by_partition

    def _call(self, pipeline: PipelineKeys, number: int, args: list[Any]) -> Call:
        keys = pipeline.partition(number)
        names = (*keys.lanes, keys.dedupe(""), keys.rejection, keys.settings)
        known = self._homes.number(pipeline, number)
        told = (self._window_ms, 0 if self._replicated is None else 1, known, *args)
        return Call(PUBLISH, names, told, repeatable=self._window_ms > 0)

    async def _follow(self, until: float) -> None:
        """Learns of the partitions that there are now; what was refused for their sake was not written."""
        found = await find(self._server, self._keys.namespace, self._keys.pipeline)
        if found.keys == self._keys and found.numbers == self._homes.numbers:
            if time.monotonic() > until:
                raise ServerUnavailableError(
                    f"partitions of pipeline {self._keys} are being added, for {_MOVING_SECONDS:g} s now: see whether"
                    " the operator runs, and publish the same ids again"
                )
            await asyncio.sleep(_RETRY_SECONDS[0])
        self._keys = found.keys
        self._homes = Homes(self._server, found.grown, self._window_ms / 1000, found.numbers)

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
