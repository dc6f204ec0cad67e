"""The relay: takes effects from a pipeline's outboxes to the slots they belong to, each once.

Every entry of an outbox goes to one partition of one pipeline. A relay reads an outbox from its oldest entry, in order,
and each target remembers how far it took that outbox (scripts/deliver.lua); only then an entry is deleted. So any
number of relays may run, and may be killed anywhere: what was taken already is taken no second time.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from headgate.event import DATA, ID, LANE_NUMBER, SOURCE, TIME, TYPE, Lane, encode_data
from headgate.join.record import record_of
from headgate.streams.errors import NotProvisionedError, ServerRefusedError, StreamsError
from headgate.streams.finding import find_pipeline
from headgate.streams.outcome import netstrings, split_netstrings
from headgate.streams.script import DELIVER
from headgate.streams.server import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams.keys import PartitionKeys, PipelineKeys
    from headgate.streams.server import Server

log = structlog.get_logger("headgate.relay")
_PAGE = 200
_A_TURN = 5000  # entries taken, then the next outbox has its turn
_TURN_MS = 1000  # a page takes milliseconds; whoever dies in its turn holds the others up for so long


class Relay:
    """Relays the outboxes of one pipeline; `run` may be called at any time, by any number of workers.

    `within` is the one namespace whose pipelines it delivers to; None: whichever the server lets it.
    """

    def __init__(self, server: Server, keys: PipelineKeys, within: str | None = None) -> None:
        self._server = server
        self._keys = keys
        self._within = within
        self._targets: dict[str, PipelineKeys | None] = {}
        self._absent: set[PartitionKeys] = set()
        self._complained: set[str] = set()
        self._passed: dict[str, tuple[str, frozenset[str]]] = {}
        self._first = 0
        self.left_some = False

    async def run(self) -> int:
        """Relays everything that is in the outboxes now; gives how many entries were new to their targets.

        An outbox that another relay is just at is left to that one, and a very long one is not relayed to its end:
        `left_some` then says to come again soon. What is for a pipeline that this server does not have stays, without
        holding up the rest. Raises ServerUnavailableError, StreamsError.
        """
        self._targets.clear()
        self._absent.clear()
        self.left_some = False
        self._first += 1
        taken = 0
        for step in range(self._keys.partitions):
            taken += await self._relay(self._keys.all[(self._first + step) % self._keys.partitions])
        return taken

    async def _relay(self, partition: PartitionKeys) -> int:
        outbox, turn = partition.outbox, partition.relaying
        if not await self._server.execute(outbox, "XLEN", outbox):
            return 0
        if not await self._server.execute(turn, "SET", turn, "1", "NX", "PX", _TURN_MS):
            self.left_some = True
            return 0
        try:
            return await self._relay_pages(partition)
        finally:
            with contextlib.suppress(StreamsError):
                await self._server.execute(turn, "DEL", turn)

    async def _relay_pages(self, partition: PartitionKeys) -> int:
        outbox, turn = partition.outbox, partition.relaying
        taken, waiting = 0, set[str]()
        start = await self._start(outbox, waiting)
        while taken < _A_TURN:
            page = await self._server.execute(outbox, "XRANGE", outbox, start, "+", "COUNT", _PAGE)
            if page:
                taken += await self._take(partition, page, waiting)
                start = f"({page[-1][0].decode()}"
                self._passed[outbox] = start, frozenset(waiting)
            if len(page) < _PAGE:
                return taken
            await self._server.execute(turn, "SET", turn, "1", "PX", _TURN_MS)
        self.left_some = True
        return taken

    async def _start(self, outbox: str, waiting: set[str]) -> str:
        """Where to begin in an outbox: at the oldest, but for what this relay left there for pipelines that are not.

        While not one of them is there, nothing before can be taken; a long outbox would be read again for each entry.
        """
        start, names = self._passed.pop(outbox, ("-", frozenset()))
        for name in names:
            if await self._target(name) is not None:
                return "-"
        waiting |= names
        return start if names else "-"

    async def _take(
        self,
        source: PartitionKeys,
        page: Sequence[tuple[bytes, dict[bytes, bytes]]],
        waiting: set[str],
    ) -> int:
        """One page of an outbox: each target's entries in one call, in order; then they are deleted.

        Adds to `waiting` the pipelines that are not there.
        """
        by_target: dict[PartitionKeys, list[Any]] = {}
        entries: dict[PartitionKeys, list[bytes]] = {}
        names: dict[PartitionKeys, str] = {}
        for entry, fields in page:
            name = fields[b"to"].decode()
            target = await self._target(name)
            if target is None:
                waiting.add(name)
                continue
            number, values = _delivery(self._keys, entry, target, fields)
            place = target.partition(number)
            names[place] = name
            if place in self._absent:
                waiting.add(name)
                continue
            by_target.setdefault(place, []).extend((entry, *values))
            entries.setdefault(place, []).append(entry)
        # What is for the outbox's own partition takes away what hid the others' (scripts/effects.lua): only after them.
        own = {place: by_target.pop(place) for place in (source,) if place in by_target}
        taken = 0
        for targets in (by_target, own):
            taken += await self._deliver(source, targets, entries, names, waiting)
        return taken

    async def _deliver(
        self,
        source: PartitionKeys,
        targets: dict[PartitionKeys, list[Any]],
        entries: dict[PartitionKeys, list[bytes]],
        names: dict[PartitionKeys, str],
        waiting: set[str],
    ) -> int:
        """Each target's arguments in one call; deletes its entries, or adds its name to `waiting`. Gives how many."""
        calls = [
            Call(
                DELIVER,
                (*place.lanes, place.dedupe(""), place.values, place.relayed, place.settings),
                (source.outbox, *args),
            )
            for place, args in targets.items()
        ]
        taken = 0
        through: list[bytes] = []
        failure: Exception | None = None
        for place, reply in zip(targets, await self._server.run_all(calls) if calls else (), strict=True):
            if isinstance(reply, Exception):
                failure = reply
            elif reply >= 0:
                taken += reply
                through += entries[place]
            else:
                # Should it be there by the next page, that one's mark would pass over what is left behind here.
                self._absent.add(place)
                waiting.add(names[place])
        if through:
            await self._delete(source, through)
        if failure is not None:
            raise failure if isinstance(failure, StreamsError) else StreamsError(f"relaying: {failure}")
        return taken

    async def _delete(self, source: PartitionKeys, entries: Sequence[bytes]) -> None:
        await self._server.execute(source.outbox, "XDEL", source.outbox, *entries)

    async def _target(self, name: str) -> PipelineKeys | None:
        if name not in self._targets:
            namespace, _, pipeline = name.partition("/")
            if self._within is not None and namespace != self._within:
                self._without(name, "relay.denied", "until a worker that may relays it")
                return None
            try:
                self._targets[name] = (await find_pipeline(self._server, namespace, pipeline))[0]
            except NotProvisionedError:
                self._without(name, "relay.no_target", "until it is there")
            except ServerRefusedError as error:
                # A pipeline's own user adds to its namespace only; what it may not must not hold up the rest.
                if "NOPERM" not in str(error):
                    raise
                self._without(name, "relay.denied", "until our user may add to it")
        return self._targets[name]

    def _without(self, name: str, event: str, kept: str) -> None:
        self._targets[name] = None
        if name not in self._complained:
            self._complained.add(name)
            log.warning(event, pipeline=name, kept=kept)


def _delivery(
    source: PipelineKeys, entry: bytes, target: PipelineKeys, fields: dict[bytes, bytes]
) -> tuple[int, tuple[Any, ...]]:
    """Which partition of the target an entry is for, and its kind and values as deliver.lua takes them."""
    kind, parts = fields[b"kind"].decode(), split_netstrings(fields[b"packed"])
    if kind == "emit":
        route, lane, event_id, packed = parts
        return target.partition_of(route.decode()), ("emit", lane, event_id, packed)
    if kind == "record":
        return _record_event(source, entry, target, parts)
    # A put or drop names its partition: only the own pipeline has values of ours.
    return int(parts[0]), (kind, parts[1], parts[2] if len(parts) > 2 else b"", b"")


def _record_event(
    source: PipelineKeys, entry: bytes, target: PipelineKeys, parts: list[bytes]
) -> tuple[int, tuple[Any, ...]]:
    """A join's record as an event of its output pipeline, on the partition of the id it is about."""
    record = record_of(entry.decode(), dict(zip(parts[::2], parts[1::2], strict=True)), 0)
    event_id = f"{source.pipeline}/{record.id}"
    data = {
        "id": record.id,
        "type": record.type,
        "key": record.key,
        "complete": record.complete,
        "results": record.results,
        "parts": record.parts,
        "failed": record.failed,
        "missing": record.missing,
    }
    packed = netstrings(
        [
            DATA,
            encode_data(data),
            ID,
            event_id.encode(),
            TIME,
            b"%d" % record.joined_ms,
            TYPE,
            b"headgate.record",
            SOURCE,
            f"/{source}".encode(),
        ]
    )
    lane = LANE_NUMBER[Lane.NORMAL]
    return target.partition_of(record.id), ("emit", lane, event_id.encode(), packed)
