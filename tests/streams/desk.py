"""A provisioned pipeline on a real server, and consumers of it that a test moves by hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from headgate.contract import BranchContract, JoinContract, RetryContract
from headgate.event import NewEvent
from headgate.streams import (
    BranchMeasurement,
    PipelineKeys,
    PipelineMeasurement,
    Publisher,
    ensure_groups,
    measure,
)
from headgate.streams.consumer import Consumer
from headgate.streams.outcome import NO_TURN, Delivery, Kind, Outcome, Turn
from headgate.streams.wire import Wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from headgate.streams import Receipt, Server

PATIENCE_SECONDS = 30.0


class Desk:
    """One pipeline of some branches, with all it takes to publish, consume and measure."""

    def __init__(
        self, server: Server, branches: Sequence[str], partitions: int, join: JoinContract | None
    ) -> None:
        self.server = server
        self.branches = tuple(branches)
        self.join = join
        self.keys = PipelineKeys("test", "canal", partitions)
        self.publisher = Publisher(server, self.keys)
        self.wires = Wires(server)

    def contract(self, branch: str = "a", **settings: Any) -> BranchContract:
        """What a worker of a branch is told."""
        return BranchContract(
            namespace="test",
            pipeline="canal",
            branch=branch,
            partitions=self.keys.partitions,
            join=self.join,
            **{"function": "streams.effects:act", **settings},
        )

    async def consumer(
        self, lease: str = "w1.x", branch: str = "a", partition: int = 0, **settings: Any
    ) -> Consumer:
        """A consumer that has its lease."""
        consumer = Consumer(self.wires, self.keys.partition(partition), self.contract(branch, **settings))
        await consumer.register(lease)
        return consumer

    async def publish(self, *events: Any) -> list[Receipt]:
        """Publishes events; what is no NewEvent becomes the data of one."""
        return await self.publisher.publish(
            [event if isinstance(event, NewEvent) else NewEvent(data=event) for event in events]
        )

    async def xadd(self, fields: dict[str, bytes | str], lane: str = "normal") -> bytes:
        """What any Redis client may do by hand."""
        stream = f"{self.keys.partition(0).tag}:{lane}"
        flat = [part for pair in fields.items() for part in pair]
        entry: bytes = await self.server.execute(stream, "XADD", stream, "*", *flat)
        return entry

    async def measured(self) -> PipelineMeasurement:
        """The pipeline's figures."""
        (figures,) = await measure(self.server, [(self.keys, self.branches)])
        assert figures is not None
        return figures

    async def snapshot(self) -> dict[bytes, bytes]:
        """Every key of the server and its value, byte for byte."""
        found: dict[bytes, bytes] = {}
        async for name in self.server.scan("*"):
            found[name] = await self.server.execute(name.decode(), "DUMP", name)
        return found

    async def settled(self, branch: str = "a", events: int = 0) -> BranchMeasurement:
        """A branch's figures once it has settled at least `events` and nothing is left to do."""

        async def figures() -> BranchMeasurement | None:
            found = (await self.measured()).branches[branch]
            return found if found.backlog == 0 and found.settled >= events else None

        return await eventually(figures, f"branch {branch} settled")  # type: ignore[no-any-return]

    async def command(self, key: str, *command: str | int) -> Any:
        """One command on the node of a key."""
        return await self.server.execute(key, *command)


@contextlib.asynccontextmanager
async def desk(
    server: Server,
    branches: Sequence[str] = ("a",),
    *,
    partitions: int = 1,
    join: JoinContract | None = None,
) -> AsyncIterator[Desk]:
    """A desk whose groups are there; leaves no connection open."""
    made = Desk(server, branches, partitions, join)
    await ensure_groups(server, made.keys, branches)
    try:
        yield made
    finally:
        made.wires.close()
        await asyncio.sleep(0.01)  # an aborted transport closes its socket at the loop's next turn


async def take(consumer: Consumer, count: int = 100, turn: Turn = NO_TURN) -> list[Delivery]:
    """The deliveries of one read."""
    deliveries, _, _ = await consumer.read(count, turn)
    return deliveries


def done(delivery: Delivery, result: bytes = b"null", busy_us: int = 0) -> Outcome:
    """The outcome of a handler that returned."""
    return Outcome(delivery, Kind.DONE, result, busy_us=busy_us)


def retried(delivery: Delivery, delay_ms: int = 0) -> Outcome:
    """The outcome of an attempt that failed."""
    return Outcome(delivery, Kind.RETRY, b"failed", delay_ms)


def dead(delivery: Delivery, error: bytes = b"hopeless") -> Outcome:
    """The outcome of a last attempt that failed."""
    return Outcome(delivery, Kind.DEAD, error)


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE_SECONDS
) -> Any:
    """Waits until an async condition gives something true, and gives that; fails saying `what` did not come."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {found!r}")
        await asyncio.sleep(0.02)
    return found


QUICK = RetryContract(max_attempts=3, initial_seconds=0.05, factor=1, max_seconds=0.05)
