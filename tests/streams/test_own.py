"""own.lua and claim.lua: who has a partition of an ordered branch, and what its next owner gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headgate.contract import Ordering
from headgate.event import NewEvent
from headgate.streams import LeaseLostError, NotOwnerError, Server
from headgate.streams.deadletters import LetterFilter
from headgate.streams.outcome import Kind, Outcome
from headgate.streams.owner import PartitionOwner, Wish, unpark
from headgate.streams.redrive import redrive
from streams.desk import Desk, dead, desk, done, retried, take

if TYPE_CHECKING:
    from headgate.streams.outcome import Delivery

SILENCE_SECONDS = 3.0
CLAIMS = 500  # at once


class Contender:
    """A worker of an ordered branch on partition 0."""

    def __init__(self, canal: Desk, lease: str) -> None:
        self.canal = canal
        self.lease = lease

    async def register(self) -> Contender:
        settings = {"ordering": Ordering.KEY, "claim_after_seconds": SILENCE_SECONDS}
        self.consumer = await self.canal.consumer(self.lease, **settings)
        contract = self.canal.contract(**settings)
        self.owner = PartitionOwner(self.canal.wires, self.canal.keys.partition(0), contract, self.consumer)
        return self

    async def take(self) -> bool:
        return (await self.owner.ask(Wish.TAKE)).owner == self.lease

    async def read(self, count: int = 100) -> list[Delivery]:
        return (await self.consumer.read_watched(count, share=False)).deliveries

    async def claim(self) -> list[Delivery]:
        """All there is to claim, some at a time."""
        self.owner.begin_claims()
        claimed: list[Delivery] = []
        while self.owner.has_claims:
            claimed += await self.owner.claim(CLAIMS)
        return claimed

    async def die(self) -> None:
        """As if it had not beaten for a long time."""
        beats = self.canal.keys.partition(0).beats("a")
        await self.canal.command(beats, "ZADD", beats, 1, self.lease)


async def contenders(canal: Desk, *leases: str) -> list[Contender]:
    return [await Contender(canal, lease).register() for lease in leases]


def data(deliveries: list[Delivery]) -> list[object]:
    return [delivery.event.data for delivery in deliveries]


async def test_a_partition_has_one_owner_at_a_time_whoever_asks(server: Server) -> None:
    async with desk(server) as canal:
        rivals = await contenders(canal, *(f"w{n}.x" for n in range(5)))
        won = await asyncio.gather(*(rival.take() for rival in rivals))
        assert sum(won) == 1
        winner = rivals[won.index(True)]
        views = [await rival.owner.ask(Wish.LOOK) for rival in rivals]
    assert {view.owner for view in views} == {winner.lease}
    assert all(sorted(view.members) == [rival.lease for rival in rivals] for view in views)


async def test_only_the_owner_reads_and_claims(server: Server) -> None:
    async with desk(server) as canal:
        await canal.publish(1)
        owner, other = await contenders(canal, "w1.x", "w2.x")
        await owner.take()
        with pytest.raises(NotOwnerError):
            await other.read()
        with pytest.raises(NotOwnerError):
            await other.claim()
        assert data(await owner.read()) == [1]


async def test_a_partition_is_nobodys_once_its_owners_lease_is_over_and_the_token_grows(
    server: Server,
) -> None:
    async with desk(server) as canal:
        first, second = await contenders(canal, "w1.x", "w2.x")
        await first.take()
        before = await second.owner.ask(Wish.LOOK)
        assert not await second.take()
        await first.die()
        after = await second.owner.ask(Wish.TAKE)
        with pytest.raises(LeaseLostError):
            await first.owner.ask(Wish.LOOK)
        with pytest.raises(LeaseLostError):
            await first.read()
    assert (before.owner, after.owner, after.members) == ("w1.x", "w2.x", ("w2.x",))
    assert after.token > before.token > 0


async def test_tokens_grow_each_time_also_after_all_was_lost(server: Server) -> None:
    tokens = []
    async with desk(server) as canal:
        (worker,) = await contenders(canal, "w1.x")
        for _ in range(3):
            tokens.append((await worker.owner.ask(Wish.TAKE)).token)
            await worker.owner.ask(Wish.GIVE)
        owner = canal.keys.partition(0).owner("a")
        await canal.command(owner, "DEL", owner)
        await asyncio.sleep(0.01)
        tokens.append((await worker.owner.ask(Wish.TAKE)).token)
    assert tokens == sorted(set(tokens))


async def test_asking_again_for_what_one_has_changes_nothing(server: Server) -> None:
    async with desk(server) as canal:
        (worker,) = await contenders(canal, "w1.x")
        first = await worker.owner.ask(Wish.TAKE)
        assert await worker.owner.ask(Wish.TAKE) == first


async def test_only_the_owner_can_give_a_partition_up(server: Server) -> None:
    async with desk(server) as canal:
        owner, other = await contenders(canal, "w1.x", "w2.x")
        await owner.take()
        assert (await other.owner.ask(Wish.GIVE)).owner == "w1.x"
        assert (await owner.owner.ask(Wish.GIVE)).owner == ""
        assert await other.take()


async def test_one_that_leaves_is_no_member_but_keeps_what_it_has_until_it_gives_it(server: Server) -> None:
    async with desk(server) as canal:
        leaving, other = await contenders(canal, "w1.x", "w2.x")
        await leaving.take()
        await leaving.owner.ask(Wish.LEAVE)
        view = await other.owner.ask(Wish.TAKE)
        assert (view.owner, view.members) == ("w1.x", ("w2.x",))
        await leaving.consumer.release()
        view = await other.owner.ask(Wish.TAKE)
        assert (view.owner, view.members) == ("w2.x", ("w2.x",))
        owner = canal.keys.partition(0).owner("a")
        assert b"away:w1.x" not in await canal.command(owner, "HKEYS", owner)


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


async def test_a_frozen_owner_settles_nothing_and_gets_nothing_once_its_partition_is_anothers(
    server: Server,
) -> None:
    async with desk(server) as canal:
        await canal.publish(1, 2)
        frozen, heir = await contenders(canal, "w1.x", "w2.x")
        await frozen.take()
        (one,) = await frozen.read(1)
        await frozen.die()
        await heir.take()
        await heir.claim()
        with pytest.raises(LeaseLostError):
            await frozen.consumer.settle([done(one)])
        with pytest.raises(LeaseLostError):
            await frozen.read()
        assert data(await heir.read()) == [2]
        assert (await canal.measured()).branches["a"].pending == 2


async def test_a_parked_event_waits_for_the_one_ahead_and_an_empty_read_says_from_where_to_listen(
    server: Server,
) -> None:
    async with desk(server) as canal:
        await canal.publish(*(NewEvent(data=n, key="k") for n in range(3)))
        (worker,) = await contenders(canal, "w1.x")
        await worker.take()
        first, second, third = await worker.read()
        park = [Outcome(each, Kind.PARK) for each in (second, third)]
        settled = await worker.consumer.settle([retried(first, 50), *park])
        assert (settled.count, settled.unblocked) == (3, ())
        look = await worker.consumer.read_watched(10, share=False)
        assert (look.deliveries, 0 < look.due_ms <= 50) == ([], True)
        assert look.last_ids == (b"0-0", third.entry, b"0-0", b"0-0")
        order, unblocked = [], ()
        while not unblocked:
            await asyncio.sleep(0.01)
            for delivery in await worker.read():
                order.append((delivery.event.data, delivery.event.attempt))
                unblocked = (await worker.consumer.settle([done(delivery)])).unblocked
    assert order == [(0, 2), (1, 1), (2, 1)]
    assert unblocked == ("k",)


async def test_a_letter_redriven_while_its_key_is_at_work_lets_nothing_overtake(server: Server) -> None:
    async with desk(server) as canal:
        (worker,) = await contenders(canal, "w1.x")
        await worker.take()
        await canal.publish(*(NewEvent(data=n, id=str(n), key="k") for n in range(3)))
        letter, one, two = await worker.read()
        await worker.consumer.settle([dead(letter)])
        async for _ in redrive(server, canal.keys, "a", LetterFilter()):
            pass
        await worker.consumer.settle([retried(one, 50), Outcome(two, Kind.PARK)])
        order: list[object] = []
        while len(order) < 3:
            for delivery in await worker.read():
                order.append(delivery.event.data)
                settled = await worker.consumer.settle([done(delivery)])
            await asyncio.sleep(0.01)
    assert order == [0, 1, 2]
    assert settled.unblocked == ("k",)


async def test_what_was_parked_is_set_free_when_the_branch_is_ordered_no_longer(server: Server) -> None:
    async with desk(server) as canal:
        (worker,) = await contenders(canal, "w1.x")
        await worker.take()
        await canal.publish(*(NewEvent(data=n, key="k") for n in range(600)))
        first, *behind = await worker.read(600)
        await worker.consumer.settle([retried(first), *(Outcome(each, Kind.PARK) for each in behind)])
        assert (await canal.measured()).branches["a"].backlog == 600
        await worker.consumer.release()
        assert [await unpark(server, canal.keys, "a") for _ in range(3)] == [500, 99, 0]
        plain = await canal.consumer("w2.x")
        freed = data(await take(plain, 600))
        figures = (await canal.measured()).branches["a"]
        partition = canal.keys.partition(0)
        for key in (partition.blocked("a"), partition.parked("a", "k"), partition.owner("a")):
            assert await canal.command(key, "EXISTS", key) == 0
    assert sorted(freed) == list(range(600))
    assert figures.backlog == 600
