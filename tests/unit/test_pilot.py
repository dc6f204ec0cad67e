"""The pilot's promises about what fails: it never stops what works, and what is unknown is held."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from headgate.event import Lane
from headgate.streams import (
    BranchMeasurement,
    Closed,
    Ensured,
    Gate,
    LaneMeasurement,
    PipelineMeasurement,
    ServerUnavailableError,
    Swept,
)
from headgate_cli.manifests import load
from headgate_operator import gating, steering, topology
from headgate_operator import pilot as pilot_module
from headgate_operator.api import GateState
from headgate_operator.pilot import Pilot
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.pipeline import Pipeline

NOOP = Path(__file__).parents[1] / "data" / "noop" / "pipeline.yaml"


class Place:
    """Workers that are ready as soon as they are asked for; a real one would take seconds for each law."""

    def __init__(self) -> None:
        self.workers: dict[str, int] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.broken: set[str] = set()

    async def apply(self, _: Pipeline) -> int:
        return 0

    async def observe(self, pipeline: Pipeline) -> dict[str, Workers]:
        if str(pipeline) in self.broken:
            raise OSError("no API server")
        counts = {name: self.workers.get(f"{pipeline}/{name}", 0) for name in pipeline.branch_names}
        return {name: Workers(count, count, count) for name, count in counts.items()}

    async def scale(self, pipeline: Pipeline, branch: str, replicas: int, _: Mapping[str, int]) -> None:
        self.calls.append((str(pipeline), branch, replicas))
        self.workers[f"{pipeline}/{branch}"] = replicas

    async def remove(self, _: Pipeline) -> None:
        self.workers.clear()


class World:
    """What servers would say; `None` is one that does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.found: dict[str, PipelineMeasurement | Exception | None] = {}
        self.gates: list[tuple[str, Gate]] = []
        self.healed: list[str] = []
        self.asked = 0
        self.place = Place()
        monkeypatch.setattr(pilot_module, "measure", self._measure)
        monkeypatch.setattr(gating, "set_gate", self._set_gate)
        monkeypatch.setattr(steering, "sweep", self._sweep)
        monkeypatch.setattr(steering, "read_closed", self._read_closed)
        monkeypatch.setattr(topology, "ensure_groups", self._ensure)
        monkeypatch.setattr(topology, "reopen_if_moved", self._reopen)
        self.pilot = Pilot(lambda pipeline: pipeline.namespace, self.place, clock=lambda: self.now)  # type: ignore[arg-type,return-value]

    def tick(self, seconds: float = 1.0) -> dict[tuple[str, str], Any]:
        self.now += seconds
        return asyncio.run(self.pilot.tick())

    async def _measure(
        self, server: str, wanted: Any, _known: object = (), **_: object
    ) -> list[PipelineMeasurement | None]:
        found = self.found[server]
        if isinstance(found, Exception):
            raise found
        return [found for _ in wanted]

    async def _set_gate(self, _: str, _keys: object, branch: str, gate: Gate, _ttl: float) -> None:
        self.gates.append((branch, gate))

    async def _sweep(self, *_: object) -> Swept:
        return Swept()

    async def _ensure(self, server: str, *_: object) -> Ensured:
        self.healed.append(server)
        return Ensured(made=("slow",))

    async def _read_closed(self, *_: object) -> Closed:
        self.asked += 1
        return Closed(reason="410 Gone", target="https://hooks.example", at="2026-01-31T12:00:00Z")

    async def _reopen(self, *_: object) -> bool:
        return False


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def measured(high: int | None = 0, low: int = 0) -> PipelineMeasurement:
    """With a `high` of None as a branch without its group is measured."""
    lanes = {Lane.HIGH: LaneMeasurement(undelivered=high), Lane.LOW: LaneMeasurement(undelivered=low)}
    branch = BranchMeasurement(lanes=lanes, undelivered=None if high is None else high + low)
    return PipelineMeasurement(published=(high or 0) + low, branches={"fast": branch, "slow": branch})


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
        def __init__(self, server: str, keys: object) -> None:
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
    world.pilot.remove("default", "noop")
    assert world.tick() == {}
    assert world.place.calls == []
