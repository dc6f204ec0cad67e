"""seen.lua: whether an id was published to a partition that it belongs to no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.event import NewEvent
from headgate.streams import ensure_groups
from headgate.streams.homes import Homes, MovedError, Seen
from headgate.streams.script import SEEN
from headgate.streams.server import Call
from streams.desk import Desk, desk

if TYPE_CHECKING:
    from headgate.streams import Server


async def ask(canal: Desk, number: int, partitions: int, *ids: str) -> list[Any]:
    partition = canal.keys.partition(number)
    call = Call(SEEN, (partition.settings, partition.dedupe("")), (partitions, *ids))
    (reply,) = await canal.server.run_all([call])
    assert not isinstance(reply, Exception), reply
    return list(reply)


async def test_it_gives_the_entries_of_ids_that_were_published_and_nothing_for_others(server: Server) -> None:
    async with desk(server) as canal:
        first, second = await canal.publish(NewEvent(id="e1", data=1), NewEvent(id="e2", data=2))
        assert await ask(canal, 0, 1, "e2", "never", "e1") == [
            1,
            second.entry.encode(),
            b"",
            first.entry.encode(),
        ]
        assert await ask(canal, 0, 1) == [1]


async def test_a_partition_that_knows_of_another_number_says_nothing(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(NewEvent(id="e1", data=1))
        assert await ask(canal, 0, 2, "e1") == [-1]
        before = await canal.snapshot()
        assert await ask(canal, 7, 2, "e1") == [-1]
        assert await canal.snapshot() == before


async def test_homes_ask_where_ids_may_have_gone_and_only_within_the_dedupe_window(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        receipts = await canal.publish(*(NewEvent(id=f"e{n}", data=n) for n in range(300)))
        grown = canal.keys.with_partitions(5)
        wanted = [(receipt.id, receipt.id) for receipt in receipts]
        homes = Homes(server, "2:99999999999999", 600)
        with pytest.raises(MovedError):
            await homes.seen(grown, wanted)
        await ensure_groups(server, grown, ["a"])
        moved = {
            receipt.id: Seen(receipt.partition, receipt.entry)
            for receipt in receipts
            if grown.partition_of(receipt.id) != receipt.partition
        }
        assert len(moved) > 100
        assert await homes.seen(grown, wanted) == moved
        assert await Homes(server, "2:1000", 600).seen(grown, wanted) == {}
        assert await Homes(server, "", 600).seen(grown, wanted) == {}
