"""The real pilot's gates and rejections on real servers: what they do, and that they end when it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.event import Lane, NewEvent
from headgate.streams import BackpressureError, Server
from headgate_operator import gating
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.pilot import Pilot
from headgate_operator.pipeline import Pipeline, load_pipeline
from headgate_operator.substrates import Workers
from streams.desk import Desk, desk, eventually, take

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS: dict[str, Any] = {
    "levels": [{"name": "Shed", "lag": 20, "releaseLag": 5, "delay": ["Low"], "reject": ["Low"]}],
    "maxDelaySeconds": 900,
}


class Nobody:
    """A substrate without workers."""

    async def apply(self, _: Pipeline) -> int:
        return 0

    async def observe(self, pipeline: Pipeline) -> dict[str, Workers]:
        return {name: Workers() for name in pipeline.branch_names}

    async def scale(self, _: Pipeline, _branch: str, _replicas: int, _holding: Mapping[str, int]) -> None:
        pass

    async def remove(self, _: Pipeline) -> None:
        pass


def pipeline(partitions: int) -> Pipeline:
    handler = {"python": {"image": "none", "function": "none:none"}}
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": "test", "name": "canal"},
        "spec": {
            "source": {"partitions": partitions},
            "branches": [
                {"name": "a", "handler": handler, "backpressure": LEVELS},
                {"name": "b", "handler": handler},
            ],
        },
    }
    return load_pipeline(manifest)


def low(number: int) -> NewEvent:
    return NewEvent(data=number, id=f"low-{number}", lane=Lane.LOW)


async def read_all(canal: Desk, branch: str) -> int:
    found = 0
    for number in range(canal.keys.partitions):
        found += len(await take(await canal.consumer("w1.x", branch, number), 100))
    return found


async def test_a_branch_at_a_level_delays_for_itself_refuses_for_all_and_neither_outlives_the_pilot(
    server: Server,
) -> None:
    async with desk(server, ("a", "b"), partitions=2) as canal:
        now = 0.0
        pilot = Pilot(lambda _: server, Nobody(), clock=lambda: now)
        pilot.add(pipeline(2))
        await canal.publish(*(NewEvent(data=n, lane=Lane.HIGH) for n in range(15)), *map(low, range(10)))
        readings = await pilot.tick()
        reading = readings["test", "canal"]
        assert (reading.level, reading.branches["a"].rejected) == ("Shed", {Lane.LOW})
        assert reading.branches["b"].delayed == frozenset()
        with pytest.raises(BackpressureError):
            await canal.publish(low(100))
        assert await read_all(canal, "a") == 15
        assert await read_all(canal, "b") == 25
        # From here on no pilot flies.

        async def taken() -> bool:
            try:
                await canal.publish(low(100))
            except BackpressureError:
                return False
            return True

        await eventually(taken, "publishers taken again")

        read = 0

        async def flows() -> bool:
            nonlocal read
            read += await read_all(canal, "a")
            return read == 11

        await eventually(flows, "the gate open")


async def settle(canal: Desk, count: int) -> None:
    """Has branch a settle so many events of its first partition."""
    consumer = await canal.consumer("w1.x", "a", 0)
    held = await take(consumer, count)
    assert len(held) == count
    await canal.command(consumer.streams[0], "XACK", consumer.streams[0], "a", *(h.entry for h in held))


async def test_the_next_pilot_goes_on_with_the_gate_that_stands_until_the_level_is_released(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gating, "GATE_TTL_SECONDS", 60.0
    )  # on a machine that is busy the next one may take a while
    async with desk(server, ("a", "b")) as canal:
        now = 0.0

        def pilot() -> Pilot:
            made = Pilot(lambda _: server, Nobody(), clock=lambda: now)
            made.add(pipeline(1))
            return made

        await canal.publish(low(0), *(NewEvent(data=n, lane=Lane.HIGH) for n in range(20)))
        await pilot().tick()
        await settle(canal, 10)
        following = pilot()
        for at in (100.0, 101.0, 110.0):
            now = at
            reading = (await following.tick())["test", "canal"].branches["a"]
            assert (reading.backlog, reading.delayed) == (11, {Lane.LOW}), (
                "more than releaseLag, less than lag"
            )
        await settle(canal, 6)
        now = 111.0
        reading = (await following.tick())["test", "canal"].branches["a"]
        assert (reading.backlog, reading.delayed) == (5, frozenset())
        assert await read_all(canal, "a") == 5


async def test_a_level_that_is_over_is_lifted_at_the_pilots_next_look(server: Server) -> None:
    async with desk(server, ("a", "b"), partitions=2) as canal:
        now = 0.0
        pilot = Pilot(lambda _: server, Nobody(), clock=lambda: now)
        pilot.add(pipeline(2))
        await canal.publish(*(NewEvent(data=n, lane=Lane.HIGH) for n in range(25)))
        await pilot.tick()
        with pytest.raises(BackpressureError):
            await canal.publish(low(0))
        for number in range(2):
            consumer = await canal.consumer("w1.x", "a", number)
            held = await take(consumer, 100)
            await canal.command(
                consumer.streams[0], "XACK", consumer.streams[0], "a", *(h.entry for h in held)
            )
        now = 6.0
        await pilot.tick()
        await canal.publish(low(0))
        assert await read_all(canal, "a") == 1
