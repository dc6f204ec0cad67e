"""publish.lua and its publisher."""

from __future__ import annotations

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import PipelineKeys, Publisher, Server
from streams.desk import desk, eventually, take


@pytest.mark.parametrize("lane", Lane)
async def test_an_event_goes_to_the_lane_it_names_and_any_client_can_read_it(
    server: Server, lane: Lane
) -> None:
    async with desk(server) as canal:
        (receipt,) = await canal.publish(
            NewEvent(data={"n": 1}, id="i", type="t", source="s", key="k", lane=lane)
        )
        stream = canal.keys.partition(0).lane(lane)
        ((entry, fields),) = await canal.command(stream, "XRANGE", stream, "-", "+")
    assert entry.decode() == receipt.entry
    assert fields.pop(b"time").isdigit()
    assert fields == {b"data": b'{"n":1}', b"id": b"i", b"type": b"t", b"source": b"s", b"key": b"k"}


async def test_an_id_published_again_adds_nothing_and_names_the_first_entry(server: Server) -> None:
    async with desk(server) as canal:
        (first,) = await canal.publish(NewEvent(data=1, id="same"))
        before = await canal.snapshot()
        (second,) = await canal.publish(NewEvent(data=2, id="same", lane=Lane.HIGH))
        assert await canal.snapshot() == before
    assert not first.duplicate
    assert second.duplicate
    assert second.entry == first.entry


async def test_an_id_twice_in_one_batch_is_published_once(server: Server) -> None:
    async with desk(server) as canal:
        receipts = await canal.publish(*(NewEvent(data=n, id="same") for n in range(3)))
        assert (await canal.measured()).published == 1
    assert [receipt.duplicate for receipt in receipts] == [False, True, True]
    assert len({receipt.entry for receipt in receipts}) == 1


async def test_an_id_is_new_again_after_the_dedupe_window(server: Server) -> None:
    async with desk(server) as canal:
        publisher = Publisher(server, canal.keys, dedupe_window_seconds=0.05)
        assert not (await publisher.publish([NewEvent(data=1, id="same")]))[0].duplicate

        async def published_anew() -> bool:
            return not (await publisher.publish([NewEvent(data=2, id="same")]))[0].duplicate

        await eventually(published_anew, "the window's end")


async def test_without_a_window_nothing_is_a_duplicate_and_no_mark_is_kept(server: Server) -> None:
    async with desk(server) as canal:
        publisher = Publisher(server, canal.keys, dedupe_window_seconds=0)
        receipts = await publisher.publish([NewEvent(data=n, id="same") for n in range(2)])
        marks = [name async for name in server.scan("*:dedupe:*")]
    assert not any(receipt.duplicate for receipt in receipts)
    assert marks == []


async def test_events_without_an_id_are_each_their_own(server: Server) -> None:
    async with desk(server) as canal:
        receipts = await canal.publish(*[{"same": True}] * 20)
    assert len({receipt.id for receipt in receipts}) == 20
    assert not any(receipt.duplicate for receipt in receipts)


async def test_a_long_publish_keeps_its_order_in_a_partition(server: Server) -> None:
    async with desk(server) as canal:
        receipts = await canal.publish(*range(250))
        read = await take(await canal.consumer(), 300)
    assert [delivery.event.data for delivery in read] == list(range(250))
    assert [delivery.event.id for delivery in read] == [receipt.id for receipt in receipts]


async def test_equal_keys_share_a_partition_and_ids_use_them_all(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        keyed = await canal.publish(*(NewEvent(data=n, key="user-7") for n in range(20)))
        free = await canal.publish(*(NewEvent(data=n, id=f"event-{n}") for n in range(60)))
        assert (await canal.measured()).published == 80
    assert {receipt.partition for receipt in keyed} == {canal.keys.partition_of("user-7")}
    assert {receipt.partition for receipt in free} == {0, 1, 2, 3}


async def test_data_that_is_no_json_publishes_nothing_at_all(server: Server) -> None:
    async with desk(server) as canal:
        with pytest.raises(TypeError):
            await canal.publish(1, object(), 2)
        assert (await canal.measured()).published == 0


async def test_publishing_goes_on_when_the_server_forgot_its_scripts(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        await canal.publish(*range(20))
        for partition in canal.keys.all:
            await canal.command(partition.stats, "SCRIPT", "FLUSH")
        await canal.publish(*range(20))
        assert (await canal.measured()).published == 40


async def test_what_is_published_before_there_is_any_group_is_not_lost(server: Server) -> None:
    keys = PipelineKeys("test", "canal")
    await Publisher(server, keys).publish([NewEvent(data="early")])
    async with desk(server) as canal:
        assert [delivery.event.data for delivery in await take(await canal.consumer())] == ["early"]


async def test_a_publisher_that_knows_of_other_partitions_is_refused_as_a_whole_and_learns(
    server: Server,
) -> None:
    async with desk(server, partitions=3) as canal:
        stale = Publisher(server, PipelineKeys("test", "canal", 1))
        receipts = await stale.publish([NewEvent(id=f"e{n}", data=n) for n in range(30)])
        assert [each.partition for each in receipts] == [canal.keys.partition_of(f"e{n}") for n in range(30)]
        assert [each.id for each in receipts] == [f"e{n}" for n in range(30)]
        assert (await canal.measured()).published == 30
