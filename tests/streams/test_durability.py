"""Publishing that waits for replicas: what it returns for is on them, and what it does not is said."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from headgate.event import NewEvent
from headgate.streams import (
    NotReplicatedError,
    PipelineKeys,
    Publisher,
    Replicated,
    Server,
    SourceSettings,
    ensure_groups,
)
from streams.desk import desk
from streams.fleets import Node, cluster_with_replicas, pair
from streams.servers import redis_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOON = Replicated(1, 0.3)


@pytest.fixture(params=[redis_server, valkey_server])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Server, Node, Node]]:
    """A server, and the nodes behind it: a master and its replica."""
    with pair(request.param()) as (master, replica):
        async with aclosing(Server.connect(master.url)) as server:
            yield server, master, replica


def events(count: int) -> list[NewEvent]:
    return [NewEvent(id=f"e{n}", data=n) for n in range(count)]


async def test_what_is_published_is_on_the_replica_when_it_returns(both: tuple[Server, Node, Node]) -> None:
    server, master, replica = both
    async with desk(server) as canal:
        await Publisher(server, canal.keys, durability=Replicated(1, 5)).publish(events(250))
        master.kill()
        assert replica.call("XLEN", canal.keys.partition(0).lanes[1]) == 250


async def test_a_pipelines_publisher_waits_as_its_manifest_says(both: tuple[Server, Node, Node]) -> None:
    server, _, replica = both
    async with desk(server) as canal:
        settings = SourceSettings(replicas=1, wait_seconds=1)
        await ensure_groups(server, canal.keys, canal.branches, settings)
        publisher = await Publisher.open(server, "test", "canal")
        await publisher.publish(events(1))
        replica.freeze()
        since = time.monotonic()
        with pytest.raises(NotReplicatedError):
            await publisher.publish([NewEvent(data="late")])
        assert time.monotonic() - since >= 1


async def test_too_few_replicas_are_said_and_the_same_ids_published_again_are_waited_for(
    both: tuple[Server, Node, Node],
) -> None:
    server, _, replica = both
    async with desk(server) as canal:
        publisher = Publisher(server, canal.keys, durability=SOON)
        replica.freeze()
        with pytest.raises(
            NotReplicatedError, match=r"0 of 1 replicas .* publish the same ids again"
        ) as told:
            await publisher.publish(events(3))
        assert [receipt.id for receipt in told.value.receipts] == ["e0", "e1", "e2"]
        with pytest.raises(NotReplicatedError):
            await publisher.publish(events(3))
        replica.thaw()
        again = await Publisher(server, canal.keys, durability=Replicated(1, 10)).publish(events(3))
        assert [receipt.duplicate for receipt in again] == [True] * 3
        assert (await canal.measured()).published == 3


async def test_a_duplicate_counts_as_replicated_only_when_the_first_is(
    both: tuple[Server, Node, Node],
) -> None:
    """WAIT counts what its own connection wrote: one that wrote nothing would be told that all is well."""
    server, _, replica = both
    async with desk(server) as canal:
        replica.freeze()
        await canal.publisher.publish(events(1))
        with pytest.raises(NotReplicatedError):
            await Publisher(server, canal.keys, durability=SOON).publish(events(1))


async def test_what_no_replica_had_is_gone_at_the_heir_and_the_same_ids_put_it_there_once(
    both: tuple[Server, Node, Node],
) -> None:
    server, master, replica = both
    async with desk(server) as canal:
        await Publisher(server, canal.keys, durability=Replicated(1, 5)).publish(events(1))
        replica.call("REPLICAOF", "NO", "ONE")  # cut off, and then the heir
        await canal.publisher.publish(events(2))  # Acknowledged knows nothing of it
        with pytest.raises(NotReplicatedError):
            await Publisher(server, canal.keys, durability=SOON).publish(events(3))
        master.kill()
        lane = canal.keys.partition(0).lanes[1]
        async with aclosing(Server.connect(replica.url)) as heir:
            assert replica.call("XLEN", lane) == 1
            receipts = await Publisher(heir, canal.keys).publish(events(3))
            assert [receipt.duplicate for receipt in receipts] == [True, False, False]
            assert replica.call("XLEN", lane) == 3


async def test_more_replicas_than_there_are_is_an_error_that_names_both(
    both: tuple[Server, Node, Node],
) -> None:
    server, _, _ = both
    async with desk(server) as canal:
        with pytest.raises(NotReplicatedError, match="1 of 2 replicas"):
            await Publisher(server, canal.keys, durability=Replicated(2, 1.5)).publish(events(1))
        assert await Publisher(server, canal.keys, durability=Replicated(2, 1.5)).publish([]) == []


async def test_on_a_cluster_every_node_that_took_events_is_waited_for() -> None:
    with cluster_with_replicas() as fleet:
        async with aclosing(Server.connect(fleet.url)) as server, desk(server, partitions=4) as canal:
            owners = {fleet.master_of(partition.stats).port for partition in canal.keys.all}
            assert len(owners) == 3
            publisher = Publisher(server, canal.keys, durability=Replicated(1, 2))
            receipts = await publisher.publish(events(60))
            assert {receipt.partition for receipt in receipts} == {0, 1, 2, 3}
            last = fleet.nodes[-1]
            last.freeze()
            with pytest.raises(NotReplicatedError, match="0 of 1"):
                await publisher.publish([NewEvent(data=n, id=f"late{n}") for n in range(60)])
            last.thaw()


async def test_replicated_to_none_or_for_no_time_is_refused() -> None:
    async with aclosing(Server.connect("redis://127.0.0.1:1")) as server:
        for wrong in (Replicated(0, 1), Replicated(1, 0)):
            with pytest.raises(ValueError, match="at least 1"):
                Publisher(server, PipelineKeys("test", "canal"), durability=wrong)
