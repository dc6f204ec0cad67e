"""A pipeline as an application sees it: to publish into, and to read what became of it.

    async with connect("orders") as orders:
        await orders.publish(NewEvent(id="o1", data={"total": 5}))
        async for record in orders.follow():
            print(record.id, record.results)

What is below it (`headgate.streams`) has more ways; this has the common ones, in a line each.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from headgate.event import NewEvent
from headgate.join.record import Record, read_records
from headgate.letters import Which, letter_filter
from headgate.streams import (
    OnBackpressure,
    PipelineKeys,
    PipelineMeasurement,
    Publisher,
    Server,
    StreamsError,
    find_pipeline,
    measure,
    purge,
    read_counts,
    read_dead_letters,
    read_value,
    read_values,
    redrive,
    remove_counts,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from typing import Unpack

    from headgate.streams import DeadLetter, Receipt

URL_VARIABLE = "HEADGATE_REDIS_URL"
_LOOK_SECONDS = 0.1  # between two looks for new records


@asynccontextmanager
async def connect(
    pipeline: str,
    *,
    namespace: str = "default",
    url: str | None = None,
    on_backpressure: OnBackpressure | str = OnBackpressure.WAIT,
) -> AsyncIterator[Connection]:
    """A pipeline by its name, on the server at `url` (without one: that of the variable HEADGATE_REDIS_URL).

    `on_backpressure` is what a publish does while a level refuses its lane: "wait" until it is taken, or "raise"
    BackpressureError. Raises ValueError for no URL of a server, NotProvisionedError when the pipeline is not on it,
    ServerUnavailableError.
    """
    where = url or os.environ.get(URL_VARIABLE, "")
    if not where:
        raise ValueError(
            f"connect({pipeline!r}): no server is named; give url=, or set {URL_VARIABLE}, for example "
            "redis://localhost:6379"
        )
    server = Server.connect(where)
    try:
        publisher = await Publisher.open(server, namespace, pipeline, on_backpressure=on_backpressure)
        yield Connection(server, namespace, pipeline, publisher)
    finally:
        await server.aclose()


class Connection:
    """One pipeline on one server; for any number of tasks. Every method raises ServerUnavailableError."""

    def __init__(self, server: Server, namespace: str, pipeline: str, publisher: Publisher) -> None:
        self.namespace = namespace
        self.pipeline = pipeline
        self._server = server
        self._publisher = publisher

    async def publish(self, *events: NewEvent | Iterable[NewEvent]) -> list[Receipt]:
        """Publishes events, given one by one or as lists of them; a receipt for each, in their order.

        Hundreds at once are one round trip. It may be repeated when it raised: an id adds one event within the dedupe
        window. Raises what `Publisher.publish` does.
        """
        everything: list[NewEvent] = []
        for each in events:
            everything += [each] if isinstance(each, NewEvent) else each
        return await self._publisher.publish(everything)

    async def records(self, after: Mapping[int, str] | None = None) -> list[Record]:
        """The join's records so far; with `after`, by partition the `entry` last read, those that came since."""
        return await read_records(self._server, await self._keys(), after)

    async def follow(self, after: Mapping[int, str] | None = None) -> AsyncIterator[Record]:
        """The join's records, those that are there and then each as it comes, for ever."""
        seen = dict(after or {})
        while True:
            found = await self.records(seen)
            for record in found:
                yield record
                seen[record.partition] = record.entry
            if not found:
                await asyncio.sleep(_LOOK_SECONDS)

    async def counts(self, prefix: str = "") -> dict[str, int]:
        """What handlers counted, by name; with `prefix`, of counters whose name begins with it."""
        return await read_counts(self._server, await self._keys(), prefix)

    async def remove_counts(self, *names: str | Iterable[str]) -> int:
        """Removes counters, named one by one or as lists of names; how many of them there were.

        For counters that nobody counts any more, since they stay until somebody removes them: one that is counted again
        begins at zero. A thousand names are two round trips. It may be repeated when it raised.
        """
        everything: list[str] = []
        for each in names:
            everything += [each] if isinstance(each, str) else each
        return await remove_counts(self._server, await self._keys(), everything)

    async def values(self) -> dict[str, Any]:
        """What handlers put, by key."""
        return await read_values(self._server, await self._keys())

    async def value(self, key: str) -> Any:
        """What a handler put under a key, or None."""
        return await read_value(self._server, await self._keys(), key)

    async def dead_letters(
        self, branch: str, *, limit: int = 100, **which: Unpack[Which]
    ) -> list[DeadLetter]:
        """The oldest dead letters of a branch, `limit` of each partition; `which` as for `purge`."""
        keys = await self._keys()
        wanted = await letter_filter(self._server, keys, which)
        return await read_dead_letters(self._server, keys, branch, limit, wanted)

    async def redrive(self, branch: str, *, per_second: float = 0, **which: Unpack[Which]) -> int:
        """Gives dead letters to their branch again, each as a first attempt; how many. 0 a second: no limit.

        `which` as for `purge`. Raises NotProvisionedError when the branch is no more.
        """
        keys = await self._keys()
        wanted = await letter_filter(self._server, keys, which)
        return await _last(redrive(self._server, keys, branch, wanted, per_second))

    async def purge(self, branch: str, **which: Unpack[Which]) -> int:
        """Removes dead letters of a branch for good, also of one that is no more; how many.

        `which` are those: `error` (part of its text), `type`, `id`, `older` and `newer` (a datetime with a zone, or a
        timedelta: so long ago); they meet all that is given. Raises TypeError for any other word, ValueError for an
        empty `type` or `id` and for a time without a zone.
        """
        keys = await self._keys()
        wanted = await letter_filter(self._server, keys, which)
        return await _last(purge(self._server, keys, branch, wanted))

    async def measure(self) -> PipelineMeasurement:
        """The pipeline's figures: what was published, and each branch's backlog, age, outcomes."""
        keys = await self._keys()
        lane = keys.partition(0).lanes[0]
        groups = await self._server.execute(lane, "XINFO", "GROUPS", lane)
        names = sorted(_member(group, b"name").decode() for group in groups)
        (found,) = await measure(self._server, [(keys, names)])
        if found is None:
            raise StreamsError(f"pipeline {keys}: the server cannot measure it; see its log")
        return found

    async def _keys(self) -> PipelineKeys:
        """Asked each time, since partitions may be added."""
        keys, _ = await find_pipeline(self._server, self.namespace, self.pipeline)
        return keys


async def _last(sums: AsyncIterator[int]) -> int:
    """The last of sums that grow; 0 of none."""
    last = 0
    async for last in sums:  # noqa: B007 - each is the sum so far
        pass
    return last


def _member(reply: Any, name: bytes) -> bytes:
    """A member of a reply that is pairs or a dictionary, by the version of the protocol."""
    value: bytes = reply[name] if isinstance(reply, dict) else reply[reply.index(name) + 1]
    return value
