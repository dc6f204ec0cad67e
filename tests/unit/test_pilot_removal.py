"""The pilot's promises about pipelines that are removed while it looks: nothing of them is made again."""

from __future__ import annotations

import asyncio
from dataclasses import replace as replaced
from typing import TYPE_CHECKING

import pytest

from headgate.streams import Ensured
from headgate_operator import rounds, topology
from unit.pilots import NOOP, World
from unit.pipelines import load

if TYPE_CHECKING:
    from headgate_operator.pipeline import Pipeline


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One server, which has lost all groups, with two pipelines that share no part of a round."""
    monkeypatch.setattr(rounds, "_AT_ONCE", 1)
    made = World(monkeypatch)
    made.found["default"] = None
    for name in ("first", "second"):
        made.pilot.add(named(name))
    return made


def named(name: str) -> Pipeline:
    return replaced(load(NOOP).pipeline, name=name)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_that_is_removed_while_it_is_measured_is_not_made_again(world: World):
    world.hanging["default"] = asyncio.Event()
    ticking = asyncio.create_task(world.pilot.tick())
    await turns()
    removing = asyncio.create_task(world.pilot.remove("default", "first"))
    await turns()
    assert not removing.done(), "its look is under way"
    world.hanging["default"].set()
    await asyncio.gather(ticking, removing)
    assert (world.healed, world.swept) == (["default"], 1), "of the second only"
    assert world.pilot.readings.keys() == {("default", "second")}


async def test_one_that_is_removed_before_its_turn_in_the_round_is_not_looked_at(world: World):
    world.hanging["default"] = asyncio.Event()
    ticking = asyncio.create_task(world.pilot.tick())
    await turns()
    await world.pilot.remove("default", "second")
    world.hanging["default"].set()
    await ticking
    assert (world.healed, world.measured) == (["default"], 1), "of the first only"


async def test_whoever_removes_one_may_take_its_keys_when_nothing_is_made_of_it_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    release = asyncio.Event()

    async def ensure(*_: object) -> Ensured:
        await release.wait()
        done.append("made")
        return Ensured()

    async def remove() -> None:
        await world.pilot.remove("default", "first")
        done.append("may be taken")

    monkeypatch.setattr(topology, "ensure_groups", ensure)
    await world.pilot.remove("default", "second")
    ticking = asyncio.create_task(world.pilot.tick())
    await turns()
    removing = asyncio.create_task(remove())
    await turns()
    release.set()
    await asyncio.gather(ticking, removing)
    assert done == ["made", "may be taken"]


async def test_one_that_is_removed_while_its_workers_are_observed_is_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    release, observe = asyncio.Event(), world.place.observe

    async def slow(pipeline: Pipeline) -> object:
        await release.wait()
        return await observe(pipeline)

    monkeypatch.setattr(world.place, "observe", slow)
    await world.pilot.remove("default", "second")
    ticking = asyncio.create_task(world.pilot.tick())
    await turns()
    removing = asyncio.create_task(world.pilot.remove("default", "first"))
    await turns()
    release.set()
    await asyncio.gather(ticking, removing)
    assert world.healed == []


async def test_one_that_is_made_again_while_the_one_before_is_looked_at_is_flown(world: World):
    world.hanging["default"] = asyncio.Event()
    ticking = asyncio.create_task(world.pilot.tick())
    await turns()
    removing = asyncio.create_task(world.pilot.remove("default", "first"))
    await turns()
    world.pilot.add(named("first"))
    world.hanging["default"].set()
    await asyncio.gather(ticking, removing)
    await world.pilot.tick()
    assert world.pilot.readings.keys() == {("default", "first"), ("default", "second")}
