"""The pilot's promises about what fails: it never stops what works, and what is unknown is held."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from headgate.event import Lane
from headgate.streams import Ensured, Gate, PipelineMeasurement, ServerUnavailableError
from headgate_operator import rounds, steering, topology
from headgate_operator.api import GateState
from unit.pilots import NOOP, World, measured
from unit.pipelines import load

if TYPE_CHECKING:
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.substrates import Workers


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_backlog_gets_its_workers_in_one_call_a_branch(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=6)
    reading = world.tick()["default", "noop"]
    assert world.place.calls == [("default/noop", "fast", 1), ("default/noop", "slow", 3)]
    assert reading.branches["slow"].replicas == 3
    assert reading.branches["slow"].backlog == 6
    world.tick()
    assert len(world.place.calls) == 2


def test_a_server_that_is_gone_holds_its_workers_and_stops_no_other(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.pilot.add(load(NOOP, "other").pipeline)
    world.found = {"default": measured(high=6), "other": measured(high=6)}
    world.tick()
    before = dict(world.place.workers)
    world.found = {"default": ServerUnavailableError("gone"), "other": measured()}
    for _ in range(10):
        readings = world.tick()
    assert world.place.workers["default/noop/slow"] == before["default/noop/slow"] == 3
    assert world.place.workers["other/noop/slow"] == 0
    assert readings["default", "noop"].measurement is None
    assert "gone" in readings["default", "noop"].error
    assert readings["other", "noop"].error == ""


def test_workers_that_cannot_be_observed_are_left_alone(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=6)
    world.place.broken = {"default/noop"}
    reading = world.tick()["default", "noop"]
    assert world.place.calls == []
    assert "no API server" in reading.error
    assert reading.measurement is not None


@pytest.mark.parametrize(
    "found", [None, measured(high=None)], ids=["a server that cannot tell", "a branch lost"]
)
def test_lost_groups_are_made_again_but_not_every_second(world: World, found: PipelineMeasurement | None):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = found
    for _ in range(11):
        world.tick()
    assert world.healed == ["default"] * 3
    assert world.pilot.take_healed("default", "noop") == ("slow",)
    assert world.pilot.take_healed("default", "noop") == ()


@pytest.mark.parametrize("is_held", [False, True])
def test_no_group_is_made_again_while_a_pass_changes_them_nor_by_a_manifest_with_mistakes(
    world: World, is_held: bool
):
    pipeline = load(NOOP).pipeline
    world.pilot.add(pipeline.held() if is_held else pipeline)
    world.found["default"] = None

    async def change() -> None:
        async with world.pilot.changing("default", "noop"):
            await world.pilot.tick()

    asyncio.run(change())
    assert world.healed == []
    for _ in range(6):
        world.tick()
    assert bool(world.healed) != is_held


def test_a_pass_waits_for_groups_that_are_being_made_again(world: World, monkeypatch: pytest.MonkeyPatch):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = None
    order: list[str] = []

    async def change() -> None:
        async with world.pilot.changing("default", "noop"):
            order.append("changed")

    async def heal(*_: object) -> Ensured:
        passing = asyncio.create_task(change())
        await asyncio.sleep(0.01)
        order.append("healed")
        tasks.append(passing)
        return Ensured(made=())

    async def look() -> None:
        await world.pilot.tick()
        await asyncio.gather(*tasks)

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(topology, "ensure_groups", heal)
    asyncio.run(look())
    assert order == ["healed", "changed"]


def test_a_manifest_that_comes_while_new_partitions_are_looked_at_is_not_flown_over_by_the_old_one(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    old, new = load(NOOP).pipeline, load(NOOP).pipeline
    world.pilot.add(old.waiting(("slow",)))
    world.found["default"] = measured()

    async def meanwhile(*_: object) -> tuple[str, ...]:
        world.pilot.add(new)
        return ("slow",)

    monkeypatch.setattr(steering, "release_grown", meanwhile)
    world.tick()
    assert world.pilot._flights["default", "noop"].pipeline is new


def test_no_group_is_made_again_of_a_manifest_that_was_replaced_during_the_look(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = None

    async def observe(_: object) -> dict[str, Workers]:
        world.pilot.add(load(NOOP).pipeline)
        return {}

    monkeypatch.setattr(world.place, "observe", observe)
    world.tick()
    assert world.healed == []


def test_pipelines_of_a_server_are_looked_at_though_one_before_them_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rounds, "_AT_ONCE", 1)
    monkeypatch.setattr(rounds, "ROUND_TIMEOUT_SECONDS", 0.05)
    given = load(NOOP).pipeline
    first, second = given, replace(given, name="second")
    for pipeline in (first, second):
        world.pilot.add(pipeline)
    world.found["default"] = measured()
    observe = world.place.observe

    async def hangs(pipeline: Pipeline) -> dict[str, Workers]:
        if pipeline.name == first.name:
            await asyncio.Event().wait()
        return await observe(pipeline)

    monkeypatch.setattr(world.place, "observe", hangs)
    assert set(world.tick()) == {("default", "second")}


def test_a_gate_is_renewed_each_second_and_opened_once(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=5, low=10)
    reading = world.tick()["default", "noop"]
    assert reading.level == "Delay"
    assert reading.branches["fast"].delayed == {Lane.LOW}
    world.found["default"] = measured(low=10)
    for _ in range(10):
        reading = world.tick()["default", "noop"]
    assert reading.level == ""
    renewed = [gate for branch, gate in world.gates if branch == "fast"]
    assert renewed == [Gate(frozenset({Lane.LOW}), 60)] * 5 + [Gate.OPEN]


def test_a_gate_is_renewed_while_nothing_can_be_measured(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=5, low=10)
    world.tick()
    world.found["default"] = None
    world.gates.clear()
    for _ in range(20):
        world.tick()
    assert len(world.gates) == 2 * 20
    assert all(gate.delayed == {Lane.LOW} for _, gate in world.gates)


def test_a_closed_branch_is_held_at_its_minimum_until_it_is_opened(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=60)
    world.tick()
    assert world.place.workers["default/noop/slow"] == 3
    closed = measured(high=60)
    closed.branches = {name: structs.replace(found, gate="closed") for name, found in closed.branches.items()}
    world.found["default"] = closed
    for _ in range(3):
        reading = world.tick()["default", "noop"]
    assert world.place.workers["default/noop/slow"] == 0
    assert reading.branches["slow"].gate is GateState.CLOSED
    assert reading.branches["slow"].closed.reason == "410 Gone"
    assert world.asked == 2, "once a branch"
    world.found["default"] = measured(high=60)
    reading = world.tick()["default", "noop"]
    assert world.place.workers["default/noop/slow"] == 3
    assert reading.branches["slow"].gate is not GateState.CLOSED


def test_what_was_emitted_is_relayed_when_there_is_no_worker_to_do_it(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    relayed = []

    class Relay:
        def __init__(self, server: str, keys: object, _within: str | None = None) -> None:
            self.place = (server, str(keys))

        async def run(self) -> None:
            relayed.append(self.place)

    monkeypatch.setattr(steering, "Relay", Relay)
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured()
    world.tick()
    assert relayed == []
    world.found["default"] = structs.replace(measured(), outbox=1)
    for _ in range(10):
        world.tick()
    assert relayed == [("default", "default/noop")] * 2


def test_a_removed_pipeline_is_left_alone(world: World):
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=6)
    asyncio.run(world.pilot.remove("default", "noop"))
    assert world.tick() == {}
    assert world.place.calls == []
