"""beat.lua: heartbeats, and what they claim from the dead."""

from __future__ import annotations

import asyncio

import pytest

from headgate.streams import LeaseLostError, Server
from headgate.streams.waiter import Waiter
from streams.desk import Desk, desk, done, eventually, retried, take


async def silence(canal: Desk, lease: str) -> None:
    """As if the worker had not beaten for a long time."""
    beats = canal.keys.partition(0).beats("a")
    await canal.command(beats, "ZADD", beats, 1, lease)


async def consumers_of(canal: Desk) -> set[bytes]:
    names = set()
    for stream in (*canal.keys.partition(0).lanes, canal.keys.partition(0).retry("a")):
        names |= {info["name"] for info in await canal.command(stream, "XINFO CONSUMERS", stream, "a")}
    return names


async def test_a_heartbeat_renews_the_lease(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer("w1.x", claim_after_seconds=1000)
        beats = canal.keys.partition(0).beats("a")
        await canal.command(beats, "ZADD", beats, (await canal.measured()).now_ms - 900_000, "w1.x")
        assert await consumer.beat(10) == []
        assert (
            float(await canal.command(beats, "ZSCORE", beats, "w1.x"))
            > (await canal.measured()).now_ms - 5000
        )


async def test_what_a_silent_worker_held_is_claimed_once_and_its_attempts_counted(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3))
        silent, first, second = [await canal.consumer(f"w{n}.x") for n in range(3)]
        await take(silent)
        await silence(canal, "w0.x")
        claimed = await first.beat(10)
        assert [delivery.event.data for delivery in claimed] == [0, 1, 2]
        assert [delivery.event.attempt for delivery in claimed] == [2, 2, 2]
        assert await second.beat(10) == []
        assert await first.beat(10) == []
        assert (await first.settle([done(delivery) for delivery in claimed])).count == 3
        assert (await canal.measured()).branches["a"].done == 3


async def test_a_clock_that_went_back_keeps_no_dead_worker_alive(server: Server) -> None:
    """Its last beat lies in the future then: without a word its events would wait until that time has come again."""
    async with desk(server) as canal:
        await canal.publish(1)
        dead, living = await canal.consumer("w0.x"), await canal.consumer("w1.x", claim_after_seconds=0.2)
        await take(dead)
        beats = canal.keys.partition(0).beats("a")
        for lease in ("w0.x", "w1.x"):
            await canal.command(beats, "ZADD", beats, (await canal.measured()).now_ms + 3_600_000, lease)
        assert await living.beat(10) == []

        async def claim() -> object:
            return await living.beat(10)

        (claimed,) = await eventually(claim, "the dead worker's event is claimed", 5)
        assert (await living.settle([done(claimed)])).count == 1


async def test_a_claimed_retry_keeps_its_attempts_and_counts_one_more(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish("again")
        silent, heir = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        await silent.settle([retried(delivery) for delivery in await take(silent)])
        assert [delivery.event.attempt for delivery in await take(silent)] == [2]
        await silence(canal, "w1.x")
        (claimed,) = await heir.beat(10)
        assert (claimed.event.attempt, claimed.event.data) == (3, "again")
        await heir.settle([done(claimed)])
        assert (await canal.measured()).branches["a"].backlog == 0


async def test_the_living_keep_what_they_hold(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3))
        busy, other = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        held = await take(busy)
        assert await other.beat(10) == []
        assert (await busy.settle([done(delivery) for delivery in held])).count == 3


async def test_claims_stop_at_what_there_is_room_for_and_the_rest_is_the_next_ones(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(10))
        silent, first, second = [await canal.consumer(f"w{n}.x") for n in range(3)]
        await take(silent)
        await silence(canal, "w0.x")
        counts = [len(await consumer.beat(room)) for consumer, room in ((first, 4), (second, 0), (second, 9))]
        assert counts == [4, 0, 6]
        figures = (await canal.measured()).branches["a"]
    assert figures.holding == {"w1": 4, "w2": 6}
    assert figures.backlog == 10


async def test_a_worker_that_lost_its_lease_hears_it_and_claims_nothing(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        paused, other = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        await take(paused)
        await silence(canal, "w1.x")
        assert len(await other.beat(10)) == 1
        await silence(canal, "w2.x")
        with pytest.raises(LeaseLostError):
            await paused.beat(10)
        assert (await canal.measured()).branches["a"].holding == {"w2": 1}


async def test_consumers_that_are_gone_leave_no_name_behind(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3))
        gone, here = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        await gone.settle([done(delivery) for delivery in await take(gone)])
        await gone.release()
        await canal.publish("for w2")
        await take(here)
        await here.beat(0)
        assert await consumers_of(canal) == {b"w2.x"}


async def test_an_entry_deleted_by_hand_is_no_claim(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1, 2)
        silent, heir = await canal.consumer("w1.x"), await canal.consumer("w2.x")
        first, _ = await take(silent)
        lane = canal.keys.partition(0).lanes[1]
        await canal.command(lane, "XDEL", lane, first.entry.decode())
        await silence(canal, "w1.x")
        assert [delivery.event.data for delivery in await heir.beat(10)] == [2]
        assert (await canal.measured()).branches["a"].pending == 1


async def test_a_lost_reply_is_recovered_without_what_is_known(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(3))
        consumer = await canal.consumer()
        known, *lost = await take(consumer)
        found = await consumer.recover({(known.stream, known.entry)})
        assert [each.entry for each in found] == [each.entry for each in lost]
        everything = {(each.stream, each.entry) for each in (known, *lost)}
        assert await consumer.recover(everything) == []


async def test_recovering_finds_more_than_a_page_of_lost_deliveries(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(1500))
        consumer = await canal.consumer()
        await take(consumer, 1500)
        assert [each.event.data for each in await consumer.recover(())] == list(range(1500))


async def test_recovering_is_no_attempt_and_tells_the_attempts_there_were(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        silent, heir, next_heir = [await canal.consumer(f"w{n}.x") for n in range(3)]
        await take(silent)
        await silence(canal, "w0.x")
        await heir.beat(10)
        for _ in range(3):
            (recovered,) = await heir.recover(())
            assert recovered.event.attempt == 2
        await silence(canal, "w1.x")
        (claimed,) = await next_heir.beat(10)
    assert claimed.event.attempt == 3


async def test_what_comes_under_a_lease_lost_meanwhile_is_not_taken_for_the_next_ones(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer("w1.x")
        waiter = Waiter(server, [consumer], "a")
        waiting = asyncio.create_task(waiter.wait(1, 10_000, 0))

        async def blocked() -> bool:
            return waiter._since > 0

        await eventually(blocked, "the blocking read")
        await consumer.register("w1.y")
        await canal.publish(1)
        ((_, (delivery,)),) = await waiting
        waiter.close()
    assert delivery.lease == "w1.x"
