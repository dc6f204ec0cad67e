"""Publishers meet a rejected lane: what is refused, what is not, who waits; and a rejection that nobody renews ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from headgate import emit, result
from headgate.event import Lane, NewEvent
from headgate.relay import Relay
from headgate.streams import (
    BackpressureError,
    OnBackpressure,
    Publisher,
    Rejection,
    Server,
    set_rejection,
)
from headgate.worker.composer import Composer
from streams.desk import Desk, desk, eventually, take

LOW = Rejection(frozenset({Lane.LOW}), "Throttle", 7)
LOW_AND_NORMAL = Rejection(frozenset({Lane.LOW, Lane.NORMAL}), "Shed:all", 60)


def event(lane: Lane, event_id: str) -> NewEvent:
    return NewEvent(data=event_id, id=event_id, lane=lane)


async def written(canal: Desk) -> set[str]:
    """The data of everything in the lanes."""
    found = set()
    for partition in canal.keys.all:
        for stream in partition.lanes:
            for _, fields in await canal.command(stream, "XRANGE", stream, "-", "+"):
                found.add(fields[b"id"].decode())
    return found


async def test_events_of_a_rejected_lane_are_refused_with_level_lane_and_time(server: Server) -> None:
    async with desk(server) as canal:
        await set_rejection(server, canal.keys, LOW, 60)
        before = await canal.snapshot()
        with pytest.raises(BackpressureError, match=r"level Throttle .* rejects lane low; .* 7 s") as caught:
            await canal.publish(event(Lane.LOW, "a"), event(Lane.LOW, "b"))
        assert (await canal.snapshot()).keys() == before.keys()
    error = caught.value
    assert (error.level, error.lanes, error.retry_after_seconds) == ("Throttle", {Lane.LOW}, 7)
    assert error.refused == (0, 1)


async def test_of_a_mixed_publish_all_but_the_rejected_lanes_are_written_on_every_partition(
    server: Server,
) -> None:
    async with desk(server, partitions=4) as canal:
        await set_rejection(server, canal.keys, LOW_AND_NORMAL, 60)
        events = [event(lane, f"{lane}-{n}") for n in range(250) for lane in Lane]
        with pytest.raises(BackpressureError) as caught:
            await canal.publish(*events)
        assert await written(canal) == {f"high-{n}" for n in range(250)}
    error = caught.value
    assert (error.level, error.lanes) == ("Shed:all", {Lane.LOW, Lane.NORMAL})
    assert [receipt.id for receipt in error.receipts if receipt is not None] == [
        f"high-{n}" for n in range(250)
    ]
    assert [events[place].lane for place in error.refused].count(Lane.HIGH) == 0
    assert len(error.refused) == 500


async def test_an_id_that_was_published_before_is_acknowledged_all_the_same(server: Server) -> None:
    async with desk(server) as canal:
        (first,) = await canal.publish(event(Lane.LOW, "a"))
        await set_rejection(server, canal.keys, LOW, 60)
        (second,) = await canal.publish(event(Lane.LOW, "a"))
        assert second.duplicate
        assert second.entry == first.entry


async def test_a_refused_id_is_no_duplicate_afterwards(server: Server) -> None:
    async with desk(server) as canal:
        await set_rejection(server, canal.keys, LOW, 60)
        with pytest.raises(BackpressureError):
            await canal.publish(event(Lane.LOW, "a"))
        await set_rejection(server, canal.keys, None, 60)
        (receipt,) = await canal.publish(event(Lane.LOW, "a"))
        assert not receipt.duplicate


@pytest.mark.parametrize("window", [0, 600])
async def test_who_asks_for_it_waits_and_publishes_once_and_in_order(server: Server, window: float) -> None:
    async with desk(server, partitions=2) as canal:
        waiting = Publisher(server, canal.keys, window, on_backpressure=OnBackpressure.WAIT)
        await set_rejection(server, canal.keys, LOW, 60)
        events = [event(lane, f"{lane}-{n}") for n in range(30) for lane in (Lane.LOW, Lane.HIGH)]
        publishing = asyncio.create_task(waiting.publish(events))

        async def high_is_there() -> bool:
            return len(await written(canal)) == 30

        await eventually(high_is_there, "what flows")
        await asyncio.sleep(0.5)
        assert not publishing.done()
        assert await written(canal) == {f"high-{n}" for n in range(30)}
        await set_rejection(server, canal.keys, None, 60)
        receipts = await asyncio.wait_for(publishing, 30)
        assert [receipt.id for receipt in receipts] == [each.id for each in events]
        assert (await canal.measured()).published == 60
        for partition in canal.keys.all:
            stream = partition.lane(Lane.LOW)
            entries = await canal.command(stream, "XRANGE", stream, "-", "+")
            order = [int(fields[b"id"].split(b"-")[1]) for _, fields in entries]
            assert order == sorted(order)


async def test_a_rejection_nobody_renews_ends_by_itself(server: Server) -> None:
    async with desk(server) as canal:
        await set_rejection(server, canal.keys, LOW, 0.5)
        with pytest.raises(BackpressureError):
            await canal.publish(event(Lane.LOW, "a"))

        async def taken() -> bool:
            try:
                await canal.publish(event(Lane.LOW, "a"))
            except BackpressureError:
                return False
            return True

        await eventually(taken, "the rejection's end")


async def test_a_rejection_holds_for_its_own_pipeline_only(server: Server) -> None:
    async with desk(server) as canal:
        other = Desk(server, ("a",), 1, None)
        other.keys = type(canal.keys)("test", "other", 1)
        await set_rejection(server, other.keys, LOW, 60)
        await canal.publish(event(Lane.LOW, "a"))
        with pytest.raises(BackpressureError):
            await Publisher(server, other.keys).publish([event(Lane.LOW, "a")])


async def test_what_handlers_emit_is_never_refused(server: Server) -> None:
    async with desk(server, partitions=4) as canal:
        await canal.publish(event(Lane.HIGH, "cause"))
        await set_rejection(server, canal.keys, LOW, 60)
        consumers = [await canal.consumer(partition=number) for number in range(4)]
        ((consumer, delivery),) = [(each, got) for each in consumers for got in await take(each)]
        emitted = [emit(event(Lane.LOW, f"e{n}")) for n in range(12)]
        composer = Composer(canal.contract())
        await consumer.settle([composer.done(delivery, result(None, *emitted))])
        await Relay(server, canal.keys).run()
        assert await written(canal) == {"cause", *(f"e{n}" for n in range(12))}


def publish_by_command(url: str, lines: list[dict[str, str]], *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("headgate")), "publish", "-p", "test/canal"]
    process = subprocess.Popen(
        [*command, "--redis-url", url, "--file", "-", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
    process.stdin.close()
    process.stdin = None
    return process


LINES = [{"data": "x", "id": "a", "lane": "high"}, {"data": "x", "id": "b", "lane": "low"}]


async def test_headgate_publish_ends_with_6_names_the_line_and_prints_what_is_published(
    server: Server,
) -> None:
    async with desk(server) as canal:
        await set_rejection(server, canal.keys, LOW, 60)
        with publish_by_command(server.url, LINES) as process:
            said, complaint = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 6, complaint
        assert [json.loads(line)["id"] for line in said.splitlines()] == ["a"]
        assert await written(canal) == {"a"}
    assert "-:2: lane low is rejected at level Throttle of backpressure" in " ".join(complaint.split())
    assert "--wait" in complaint


async def test_headgate_publish_waits_when_told_to(server: Server) -> None:
    async with desk(server) as canal:
        await set_rejection(server, canal.keys, LOW, 60)
        with publish_by_command(server.url, LINES, "--wait") as process:

            async def high_is_there() -> bool:
                return await written(canal) == {"a"}

            await eventually(high_is_there, "what flows")
            assert process.poll() is None
            await set_rejection(server, canal.keys, None, 60)
            said, complaint = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, complaint
        assert [json.loads(line)["id"] for line in said.splitlines()] == ["a", "b"]
        assert await written(canal) == {"a", "b"}
