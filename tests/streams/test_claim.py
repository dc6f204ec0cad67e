"""claim.lua: what the next owner of a partition gets, in which order, and what counts as an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.event import NewEvent
from headgate.streams.owner import Wish
from streams.contenders import contenders, data
from streams.desk import desk, done, retried

if TYPE_CHECKING:
    from headgate.streams import Server


async def test_the_next_owner_claims_everything_in_order_and_counts_what_died(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*(NewEvent(data=n, key="k") for n in range(1200)))
        first, second = await contenders(canal, "w1.x", "w2.x")
        await first.take()
        held = await first.read(1200)
        assert len(held) == 1200
        await first.die()
        await second.take()
        claimed = await second.claim()
        assert data(claimed) == list(range(1200))
        assert {delivery.event.attempt for delivery in claimed} == {2}
        again = await second.claim()
        assert (data(again), {delivery.event.attempt for delivery in again}) == (data(claimed), {2})
        settled = await second.consumer.settle([done(delivery) for delivery in claimed])
    assert settled.count == 1200


async def test_claims_stop_at_what_is_asked_for_and_count_nothing_behind_it(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(10))
        first, second, third = await contenders(canal, "w1.x", "w2.x", "w3.x")
        await first.take()
        await first.read()
        await first.die()
        await second.take()
        second.owner.begin_claims()
        assert data(await second.owner.claim(4)) == [0, 1, 2, 3]
        assert second.owner.has_claims
        await second.die()
        await third.take()
        assert [each.event.attempt for each in await third.claim()] == [3] * 4 + [2] * 6


async def test_what_two_gave_up_one_after_the_other_is_counted_for_neither(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(*range(6))
        first, second, third = await contenders(canal, "w1.x", "w2.x", "w3.x")
        await first.take()
        await first.read()
        await first.owner.ask(Wish.GIVE)
        await second.take()
        second.owner.begin_claims()
        await second.owner.claim(2)
        await second.owner.ask(Wish.GIVE)
        await third.take()
        assert [(each.event.data, each.event.attempt) for each in await third.claim()] == [
            (n, 1) for n in range(6)
        ]


async def test_retries_come_before_the_lanes(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(NewEvent(data="again", key="k"), NewEvent(data="later", key="k"))
        first, second = await contenders(canal, "w1.x", "w2.x")
        await first.take()
        again, _ = await first.read()
        await first.consumer.settle([retried(again)])
        assert data(await first.read()) == ["again"]
        assert await second.owner.ask(Wish.LOOK)
        await first.die()
        await second.take()
        claimed = await second.claim()
        assert [(each.event.data, each.event.attempt) for each in claimed] == [("again", 3), ("later", 2)]
        assert await second.owner.blocked() == ["k"]


async def test_what_was_given_up_unbegun_is_nobodys_failed_attempt(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1, 2, 3)
        first, second, third = await contenders(canal, "w1.x", "w2.x", "w3.x")
        await first.take()
        await first.read()
        await first.owner.ask(Wish.GIVE)
        await first.consumer.release()
        await second.take()
        claimed = await second.claim()
        assert [(each.event.data, each.event.attempt) for each in claimed] == [(1, 1), (2, 1), (3, 1)]
        await second.die()
        await third.take()
        assert {each.event.attempt for each in await third.claim()} == {2}


async def test_one_that_takes_again_what_it_gave_up_and_dies_is_counted(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        first, second = await contenders(canal, "w1.x", "w2.x")
        await first.take()
        await first.read()
        await first.owner.ask(Wish.GIVE)
        await first.take()
        assert [each.event.attempt for each in await first.claim()] == [1]
        await first.die()
        await second.take()
        assert [each.event.attempt for each in await second.claim()] == [2]


async def test_an_entry_deleted_by_hand_is_no_claim(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1, 2)
        first, second = await contenders(canal, "w1.x", "w2.x")
        await first.take()
        gone, _ = await first.read()
        lane = canal.keys.partition(0).lanes[1]
        await canal.command(lane, "XDEL", lane, gone.entry.decode())
        await first.die()
        await second.take()
        assert data(await second.claim()) == [2]
