"""deliver.lua and the relay over it: what an outbox holds reaches its target once and in order, whoever dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate import emit, put
from headgate.event import NewEvent
from headgate.relay import Relay
from headgate.streams import PipelineKeys, Server, ensure_groups, remove_pipeline
from headgate.streams.outcome import netstrings
from headgate.streams.script import DELIVER
from headgate.streams.server import Call
from headgate.worker.composer import Composer
from streams.desk import Desk, desk, take

TARGET = PipelineKeys("test", "target", 1)


async def deliver(server: Server, *entries: tuple[Any, ...], source: str = "outbox") -> int:
    """Delivers entries (id, kind, three values) to the target's partition."""
    place = TARGET.partition(0)
    keys = (*place.lanes, place.dedupe(""), place.values, place.relayed, place.settings)
    (reply,) = await server.run_all(
        [Call(DELIVER, keys, (source, *(value for entry in entries for value in entry)))]
    )
    assert isinstance(reply, int), reply
    return reply


def event(number: int, event_id: str = "") -> tuple[Any, ...]:
    packed = netstrings([b"data", b"%d" % number])
    return (f"{number}-0", "emit", 2, event_id or f"e{number}", packed)


async def arrived(server: Server) -> list[int]:
    lane = TARGET.partition(0).lanes[1]
    return [int(fields[b"data"]) for _, fields in await server.execute(lane, "XRANGE", lane, "-", "+")]


@pytest.fixture
async def target(server: Server) -> None:
    await ensure_groups(
        server,
        TARGET,
        ["x"],
    )


@pytest.mark.usefixtures("target")
async def test_entries_are_taken_once_and_in_order(server: Server) -> None:
    assert await deliver(server, event(1), event(2)) == 2
    assert await deliver(server, event(1), event(2)) == 0
    assert await deliver(server, event(2), event(3), event(10)) == 2
    assert await arrived(server) == [1, 2, 3, 10]


@pytest.mark.usefixtures("target")
async def test_each_outbox_has_its_own_mark(server: Server) -> None:
    assert await deliver(server, event(5), source="one") == 1
    assert await deliver(server, event(3), source="two") == 1
    assert await arrived(server) == [5, 3]


@pytest.mark.usefixtures("target")
async def test_an_id_that_was_published_within_the_window_is_not_published_again(server: Server) -> None:
    assert await deliver(server, event(1, "same"), event(2, "same")) == 2
    assert await arrived(server) == [1]


async def test_without_the_pipeline_nothing_is_written(server: Server) -> None:
    assert await deliver(server, event(1)) == -1
    assert [name async for name in server.scan("*")] == []


async def fill(canal: Desk, events: int, first: int = 0) -> None:
    """Puts effects for the target, and for values of other partitions, into the outboxes."""
    await canal.publish(*(NewEvent(data=n, id=f"e{n}") for n in range(first, first + events)))
    composer = Composer(canal.contract())
    for partition in canal.keys.all:
        consumer = await canal.consumer("w1.x", "a", partition.number)
        outcomes = [
            composer.done(each, [emit(NewEvent(data=each.event.data), to="target"), put("k", 1)])
            for each in await take(consumer, events)
        ]
        await consumer.settle(outcomes)


@pytest.mark.usefixtures("target")
async def test_many_relays_at_the_same_time_deliver_once(server: Server) -> None:
    async with desk(server, partitions=3) as canal:
        await fill(canal, 120)
        taken = await asyncio.gather(*(Relay(server, canal.keys).run() for _ in range(5)))
        assert (await canal.measured()).outbox == 0
    assert sorted(await arrived(server)) == list(range(120))
    assert sum(taken) >= 120


@pytest.mark.usefixtures("target")
async def test_an_outbox_that_a_relay_is_at_is_left_to_it_but_not_for_long_when_that_one_died(
    server: Server,
) -> None:
    async with desk(server) as canal:
        await fill(canal, 10)
        turn = canal.keys.partition(0).relaying
        await canal.command(turn, "SET", turn, "1", "PX", 300)
        relay = Relay(server, canal.keys)
        assert (await relay.run(), relay.left_some) == (0, True)
        await asyncio.sleep(0.35)
        assert (await relay.run(), relay.left_some) == (10, False)
        assert await canal.command(turn, "EXISTS", turn) == 0
    assert sorted(await arrived(server)) == list(range(10))


@pytest.mark.usefixtures("target")
async def test_a_relay_killed_before_it_deleted_what_was_taken_doubles_nothing(server: Server) -> None:
    class KilledError(Exception):
        pass

    async def killed(*_: object) -> None:
        raise KilledError

    async with desk(server) as canal:
        await fill(canal, 30)
        relay = Relay(server, canal.keys)
        relay._delete = killed  # type: ignore[method-assign]
        with pytest.raises(KilledError):
            await relay.run()
        assert (await canal.measured()).outbox == 30
        assert await Relay(server, canal.keys).run() == 0
        assert (await canal.measured()).outbox == 0
    assert sorted(await arrived(server)) == list(range(30))


@pytest.mark.usefixtures("target")
async def test_a_target_removed_and_made_again_gets_what_is_still_in_the_outbox(server: Server) -> None:
    async with desk(server) as canal:
        await remove_pipeline(server, TARGET)
        await fill(canal, 3)
        assert await Relay(server, canal.keys).run() == 0
        await ensure_groups(server, TARGET, ["x"])
        assert await Relay(server, canal.keys).run() == 3
    assert sorted(await arrived(server)) == [0, 1, 2]


async def test_what_waits_for_a_pipeline_that_is_not_there_is_not_read_again_for_each_new_entry(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    execute = server.execute

    async def counting(key: str, *command: Any, **options: Any) -> Any:
        reply = await execute(key, *command, **options)
        if command[0] == "XRANGE":
            read.append(len(reply))
        return reply

    async with desk(server) as canal:
        await fill(canal, 450)
        monkeypatch.setattr(server, "execute", counting)
        relay = Relay(server, canal.keys)
        assert await relay.run() == 0
        assert sum(read) == 450
        read.clear()
        await fill(canal, 3, 450)
        assert await relay.run() == 0
        assert sum(read) == 3
        await ensure_groups(server, TARGET, ["x"])
        assert await relay.run() == 453
        assert (await canal.measured()).outbox == 0
    assert sorted(await arrived(server)) == list(range(453))


async def test_a_target_whose_partitions_come_while_a_relay_is_at_work_gets_every_entry(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of a later entry must not pass over an earlier one that found no partition."""
    target = PipelineKeys("test", "target", 2)
    await ensure_groups(server, target, ["x"])
    settings = target.partition(1).settings
    await server.execute(settings, "DEL", settings)
    run_all = server.run_all

    async def and_then_it_is_there(calls: Any) -> Any:
        replies = await run_all(calls)
        if any(call.script is DELIVER for call in calls):
            await server.execute(settings, "HSET", settings, "partitions", 2)
        return replies

    async with desk(server) as canal:
        await fill(canal, 450)
        monkeypatch.setattr(server, "run_all", and_then_it_is_there)
        relay = Relay(server, canal.keys)
        await relay.run()
        await relay.run()
        assert (await canal.measured()).outbox == 0
    lanes = [place.lanes[1] for place in target.all]
    assert sum([await server.execute(lane, "XLEN", lane) for lane in lanes]) == 450
