"""Gates and rejections as the pilot sets them: whose levels count, what publishers are refused, what is renewed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.event import Lane
from headgate.streams import BranchMeasurement, Gate, LaneMeasurement, Rejection
from headgate_operator import gating
from headgate_operator.flight import Flight
from headgate_operator.gating import GATE_TTL_SECONDS, Gating
from unit.pipelines import pipeline

LEVELS: dict[str, Any] = {
    "levels": [
        {"name": "Delay", "lag": 100, "releaseLag": 50, "delay": ["Low"]},
        {"name": "Refuse", "lag": 200, "releaseLag": 90, "reject": ["Low"]},
    ],
    "maxDelaySeconds": 300,
}
OWN: dict[str, Any] = {
    "levels": [{"name": "Shed", "lag": 5, "releaseLag": 1, "delay": ["Normal"], "reject": ["Normal"]}],
    "maxDelaySeconds": 20,
    "deadlineSeconds": 30,
}


class World:
    """A flight, and what is set for it on a server that may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *branches: dict[str, Any], **spec: Any) -> None:
        self.flight = Flight(pipeline(*branches, **spec))
        self.gates: list[tuple[str, Gate, float]] = []
        self.rejections: list[tuple[Rejection | None, float]] = []
        self.broken = False
        self.now = 0.0
        monkeypatch.setattr(gating, "set_gate", self._set_gate)
        monkeypatch.setattr(gating, "set_rejection", self._set_rejection)

    def tick(self, seconds: float = 1, **found: BranchMeasurement | None) -> None:
        """One tick with these branches measured."""
        self.now += seconds
        self.gates.clear()
        self.rejections.clear()
        self.flight.errors.clear()
        asyncio.run(self._tick(found))

    async def _tick(self, found: dict[str, BranchMeasurement | None]) -> None:
        steering = Gating()
        for branch in self.flight.pipeline.spec.branches:
            await steering.gate(None, self.flight, branch, found[branch.name], self.now)  # type: ignore[arg-type]
        await steering.reject(None, self.flight)  # type: ignore[arg-type]

    async def _set_gate(self, _: object, _keys: object, branch: str, gate: Gate, ttl: float) -> None:
        if self.broken:
            raise OSError("gone")
        self.gates.append((branch, gate, ttl))

    async def _set_rejection(self, _: object, _keys: object, rejection: Rejection | None, ttl: float) -> None:
        if self.broken:
            raise OSError("gone")
        self.rejections.append((rejection, ttl))


def busy(high: int = 0, low: int = 0, held: frozenset[Lane] = frozenset()) -> BranchMeasurement:
    lanes = {Lane.HIGH: LaneMeasurement(undelivered=high), Lane.LOW: LaneMeasurement(undelivered=low)}
    return BranchMeasurement(lanes=lanes, undelivered=high + low, held=held)


def test_an_open_pipeline_costs_the_server_nothing(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, backpressure=LEVELS)
    world.tick(pack=busy(high=10))
    assert (world.gates, world.rejections) == ([], [])


def test_gates_and_rejections_are_renewed_each_tick_and_lifted_once(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, backpressure=LEVELS)
    for _ in range(3):
        world.tick(pack=busy(high=100, low=150))
        assert world.gates == [("pack", Gate(frozenset({Lane.LOW}), 300, None), GATE_TTL_SECONDS)]
        ((rejection, ttl),) = world.rejections
        assert rejection is not None
        assert (rejection.lanes, rejection.level, ttl) == ({Lane.LOW}, "Refuse", GATE_TTL_SECONDS)
    world.tick(10, pack=busy())
    assert world.gates == [("pack", Gate.OPEN, GATE_TTL_SECONDS)]
    assert world.rejections == [(None, GATE_TTL_SECONDS)]
    world.tick(pack=busy())
    assert (world.gates, world.rejections) == ([], [])


def test_a_gate_that_another_pilot_left_is_renewed_from_the_first_measurement_on(
    monkeypatch: pytest.MonkeyPatch,
):
    world = World(monkeypatch, {"name": "pack"}, backpressure=LEVELS)
    world.tick(pack=None)
    assert world.gates == []
    for _ in range(3):
        world.tick(100, pack=busy(high=60, held=frozenset({Lane.LOW})))
        assert world.gates == [("pack", Gate(frozenset({Lane.LOW}), 300, None), GATE_TTL_SECONDS)]
    world.tick(pack=busy(high=40, held=frozenset({Lane.LOW})))
    assert world.gates == [("pack", Gate.OPEN, GATE_TTL_SECONDS)]


def test_a_gate_that_stands_later_is_no_reason_for_a_level(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, backpressure=LEVELS)
    world.tick(pack=busy(high=60))
    world.tick(pack=busy(high=60, held=frozenset({Lane.LOW})))
    assert world.gates == []


def test_a_branch_has_its_own_levels_where_it_gives_some(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, {"name": "send", "backpressure": OWN}, backpressure=LEVELS)
    world.tick(pack=busy(high=50), send=busy(high=50))
    assert world.gates == [("send", Gate(frozenset({Lane.NORMAL}), 20, 30), GATE_TTL_SECONDS)]
    assert world.flight.branches["send"].level_name == "Shed"
    assert world.flight.branches["pack"].level_name == ""


def test_publishers_are_refused_what_any_branch_rejects(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, {"name": "send", "backpressure": OWN}, backpressure=LEVELS)
    world.tick(pack=busy(low=200), send=busy(high=50))
    ((rejection, _),) = world.rejections
    assert rejection is not None
    assert rejection.lanes == {Lane.LOW, Lane.NORMAL}
    world.tick(10, pack=busy(), send=busy(high=50))
    ((rejection, _),) = world.rejections
    assert rejection is not None
    assert (rejection.lanes, rejection.level) == ({Lane.NORMAL}, "Shed")


def test_what_cannot_be_measured_holds_its_gate_and_rejection(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, backpressure=LEVELS)
    world.tick(pack=busy(high=100, low=150))
    world.tick(100, pack=None)
    assert [gate.delayed for _, gate, _ in world.gates] == [{Lane.LOW}]
    assert [rejection.lanes for rejection, _ in world.rejections if rejection] == [{Lane.LOW}]


@pytest.mark.parametrize("paused", [{"spec": True}, {"branch": True}])
def test_a_paused_branch_delays_and_refuses_nothing(monkeypatch: pytest.MonkeyPatch, paused: dict[str, bool]):
    branch = {"name": "pack", "paused": paused.get("branch", False)}
    world = World(monkeypatch, branch, backpressure=LEVELS, paused=paused.get("spec", False))
    world.tick(pack=busy(high=100, low=1000))
    assert (world.gates, world.rejections) == ([], [])


def test_a_rejection_that_could_not_be_lifted_is_lifted_at_the_next_tick(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {"name": "pack"}, backpressure=LEVELS)
    world.tick(pack=busy(low=200))
    world.broken = True
    world.tick(10, pack=busy())
    assert "what publishers are refused cannot be set: gone" in world.flight.errors
    world.broken = False
    world.tick(pack=busy())
    assert world.rejections == [(None, GATE_TTL_SECONDS)]


@pytest.mark.parametrize("held", [{Lane.LOW}, {Lane.NORMAL, Lane.LOW}, set()])
@pytest.mark.parametrize("deadline", [None, 60])
def test_a_gates_lanes_are_read_as_they_were_written(held: set[Lane], deadline: int | None):
    assert Gate.lanes(Gate(frozenset(held), 900, deadline).encode()) == held


@pytest.mark.parametrize("value", ["", "closed", "low:900000", "²:1"])
def test_what_is_no_gate_holds_no_lane_back(value: str):
    assert Gate.lanes(value) == frozenset()


@pytest.mark.parametrize(
    "rejection",
    [
        Rejection(frozenset({Lane.LOW}), "Refuse", 1),
        Rejection(frozenset({Lane.NORMAL, Lane.LOW}), "a:b", 60),
    ],
)
def test_a_rejection_is_read_as_it_was_written(rejection: Rejection):
    assert Rejection.decode(rejection.encode()) == rejection
