"""What of a pipeline waits for time, and how it is told that the time has come.

In a test nothing on the server comes due by real time: workers put retries off, and joins their deadline, by ten years
(NEVER). When each is really due is known here, in virtual time. What has come due is given a time long past, in the
order in which it began to wait, and then goes its usual way: ripen.lua moves retries, expire.lua ends joins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.event import ID
from headgate.streams import sweep
from headgate.streams.outcome import ATTEMPT, Kind, split_netstrings
from headgate.streams.script import RIPEN
from headgate.streams.server import Call
from headgate.worker.retry import Retries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.contract import RetryContract
    from headgate.streams import PartitionKeys, Server
    from headgate.streams.outcome import Outcome
    from headgate.testing.clock import Clock
    from headgate_operator.pipeline import Pipeline

NEVER_SECONDS = 10 * 365 * 86400
_NEVER_MS = NEVER_SECONDS * 1000
_RIPENED_AT_ONCE = 100


class _Name(NamedTuple):
    """What tells a retry from all others of its branch: entry and attempt that failed, and the event's id."""

    partition: int
    entry: bytes
    id: bytes
    attempt: int


class _Due(NamedTuple):
    """When something is due, in virtual ms, and its place among what is due then."""

    ms: int
    place: int


class Expected:
    """When the retries of one branch are due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[_Name, _Due] = {}

    def add(self, outcome: Outcome) -> None:
        """An attempt failed now, and the next may come after its delay."""
        event = outcome.delivery.event
        name = _Name(event.partition, outcome.delivery.entry, event.id.encode(), event.attempt + 1)
        self._due[name] = _Due(self._clock.now_ms + outcome.delay_ms, len(self._due))

    def due(self, partition: int, packed: bytes) -> _Due:
        """When a member of the set of delayed events is due; one that is not from a worker of the test is due now."""
        values = split_netstrings(packed)
        fields = dict(zip(values[::2], values[1::2], strict=True))
        name = _Name(partition, fields.get(b"origin", b""), fields.get(ID, b""), int(fields.get(ATTEMPT, 0)))
        return self._due.get(name, _Due(self._clock.now_ms, 0))


class VirtualRetries(Retries):
    """The retries of a branch under test: after exactly what the manifest says, in virtual time."""

    def __init__(self, retry: RetryContract, expected: Expected) -> None:
        super().__init__(retry, jitter=0)
        self._expected = expected

    def complete(self, outcome: Outcome) -> None:
        """Decides as in any worker, then puts the retry off for ever, to be released when it is due."""
        super().complete(outcome)
        if outcome.kind is Kind.RETRY:
            self._expected.add(outcome)
            outcome.delay_ms = _NEVER_MS


class _Waiter(NamedTuple):
    """A member of one of the server's sets of what waits, and when it is due by our clock."""

    key: str
    member: bytes
    due: _Due


class Waiting:
    """What of one pipeline waits for time. Only to be asked while nothing in it works."""

    def __init__(
        self, server: Server, pipeline: Pipeline, expected: Mapping[str, Expected], clock: Clock
    ) -> None:
        self._server = server
        self._pipeline = pipeline
        self._expected = expected
        self._clock = clock
        self._joins_since: dict[tuple[str, bytes, int], int] = {}

    async def next_due(self) -> int | None:
        """When the first retry or join is due, in virtual ms; None when none waits. Raises ServerUnavailableError."""
        waiters = [
            *await self._joins(),
            *(each for found in (await self._retries()).values() for each in found),
        ]
        return min((waiter.due.ms for waiter in waiters), default=None)

    async def release_retries(self) -> int:
        """Gives the retries that are due to their branches; how many went. Raises ServerUnavailableError.

        From the moment they are due an idle worker may take them by itself (read.lua), and put one off again: what went
        is what waits no longer, whoever moved it, and not by how many there are fewer.
        """
        moved = 0
        for (partition, branch), waiters in (await self._retries()).items():
            if due := await self._make_due(waiters):
                await self._ripen(partition, branch)
                left = {member for member, _ in await self._members(partition.delayed(branch))}
                moved += sum(each.member not in left for each in due)
        return moved

    async def end_joins(self) -> int:
        """Ends the joins whose time is up; how many. Raises ServerUnavailableError."""
        ended = 0
        by_set: dict[str, list[_Waiter]] = {}
        for waiter in await self._joins():
            by_set.setdefault(waiter.key, []).append(waiter)
        if any([await self._make_due(waiters) for waiters in by_set.values()]):
            while joins := (await sweep(self._server, self._pipeline.keys, self._pipeline.join)).joins:
                ended += joins
        return ended

    async def _retries(self) -> dict[tuple[PartitionKeys, str], list[_Waiter]]:
        found: dict[tuple[PartitionKeys, str], list[_Waiter]] = {}
        for partition in self._pipeline.keys.all:
            for branch, expected in self._expected.items():
                key = partition.delayed(branch)
                found[partition, branch] = [
                    _Waiter(key, member, expected.due(partition.number, member))
                    for member, _ in await self._members(key)
                ]
        return found

    async def _joins(self) -> list[_Waiter]:
        """Open joins. Time stands still between two looks, so that one that is new began when it is now."""
        join = self._pipeline.join
        if join is None:
            return []
        since: dict[tuple[str, bytes, int], int] = {}
        waiters: list[_Waiter] = []
        for partition in self._pipeline.keys.all:
            for root, score in await self._members(partition.joins):
                name = (partition.joins, root, score)
                since[name] = self._joins_since.get(name, self._clock.now_ms)
                due = _Due(since[name] + join.timeout_seconds * 1000, score)
                waiters.append(_Waiter(partition.joins, root, due))
        self._joins_since = since
        return waiters

    async def _members(self, key: str) -> list[tuple[bytes, int]]:
        found = await self._server.execute(key, "ZRANGE", key, 0, -1, "WITHSCORES")
        return [(member, int(float(score))) for member, score in zip(found[::2], found[1::2], strict=True)]

    async def _make_due(self, waiters: list[_Waiter]) -> list[_Waiter]:
        """Has the server think that those of one set are due which are; gives those."""
        due = sorted(
            (each for each in waiters if each.due.ms <= self._clock.now_ms), key=lambda each: each.due
        )
        if due:
            scores = [part for score, each in enumerate(due) for part in (score, each.member)]
            await self._server.execute(due[0].key, "ZADD", due[0].key, "XX", *scores)
        return due

    async def _ripen(self, partition: PartitionKeys, branch: str) -> None:
        """Moves what is due to the branch's retry stream, which ends its worker's wait."""
        keys = (
            partition.retry(branch),
            partition.delayed(branch),
            partition.closed(branch),
            partition.held(branch),
        )
        due_ms = 0
        while due_ms == 0:
            (due_ms,) = await self._server.run_all([Call(RIPEN, keys, (_RIPENED_AT_ONCE,))])
            if isinstance(due_ms, Exception):
                raise due_ms
