"""own.lua: who has a partition of an ordered branch, and what only its owner may do."""

from __future__ import annotations

import asyncio

import pytest

from headgate.event import NewEvent
from headgate.streams import LeaseLostError, NotOwnerError, Server
from headgate.streams.deadletters import LetterFilter
from headgate.streams.outcome import Kind, Outcome
from headgate.streams.owner import Wish
from headgate.streams.redrive import redrive
from streams.contenders import contenders, data
from streams.desk import dead, desk, done, retried


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
        look = await worker.consumer.read_watched(10)
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
