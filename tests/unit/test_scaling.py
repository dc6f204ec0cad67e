"""From a measurement to one call of the substrate: what of the manifest, the hour and the namespace has a say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from headgate.streams import BranchMeasurement, Closed
from headgate_operator.autoscale import ScalerState, WorkerRate
from headgate_operator.flight import Flight
from headgate_operator.scaling import Scaling
from headgate_operator.settings import OperatorSettings
from headgate_operator.substrates import Workers
from headgate_operator.substrates.kubernetes import KubernetesSubstrate
from headgate_operator.substrates.sightings import Sightings
from unit.pilots import NOOP, World, measured
from unit.pipelines import load, pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.autoscale import Decision
    from headgate_operator.pipeline import Pipeline

KNOWN = ScalerState(rate=WorkerRate(settled=100, worker_seconds=10, seconds=10, handled=100, busy_seconds=8))
OFFICE = {
    "name": "office",
    "start": "0 8 * * 1-5",
    "end": "0 18 * * 1-5",
    "timezone": "Europe/Berlin",
    "min": 4,
}


class Place:
    """Workers that are ready as soon as they are asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, dict[str, int]]] = []
        self.error: Exception | None = None

    async def apply(self, _: Pipeline) -> int:
        return 0

    async def observe(self, _: Pipeline) -> dict[str, Workers]:
        return {}

    async def scale(self, _: Pipeline, branch: str, replicas: int, holding: Mapping[str, int]) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append((branch, replicas, dict(holding)))

    async def remove(self, _: Pipeline) -> None:
        pass


class Desk:
    """One pipeline of branches with a rate of 10 events a second a worker, at a time the test sets."""

    def __init__(self, *branches: dict[str, Any], total: int = 0, **spec: Any) -> None:
        self.place, self.now = Place(), 0.0
        self.wall = datetime.fromisoformat("2026-11-22T12:00:00+01:00")
        self.scaling = Scaling(self.place, total=total, wall=lambda: self.wall)
        self.flight = Flight(pipeline(*branches, **spec))
        for name in self.flight.pipeline.branch_names:
            self.flight.branches[name].scaler = KNOWN

    def scale(self, name: str = "pack", **figures: Any) -> Decision:
        """A second later, with a measurement of the branch, or without any."""
        self.now += 1
        found = BranchMeasurement(**figures) if figures else None
        branch = self.flight.pipeline.branch(name)
        decision = asyncio.run(self.scaling.scale(self.flight, branch, found, 0, self.now))
        memory = self.flight.branches[name]
        if self.place.calls and self.place.calls[-1][0] == name:
            replicas = self.place.calls[-1][1]
            memory.workers = replace(memory.workers, desired=replicas, ready=replicas)
        return decision


def test_a_decision_that_differs_from_what_is_there_is_one_call_with_who_holds_what():
    desk = Desk({"scale": {"max": 20}})
    assert desk.scale(undelivered=1500, holding={"w-1": 3}).replicas == 5
    desk.scale(undelivered=1500, holding={"w-1": 3})
    assert desk.place.calls == [("pack", 5, {"w-1": 3})]


def test_the_manifest_gives_limits_ages_and_steps():
    desk = Desk({"scale": {"max": 20, "maxStep": 2}})
    decision = desk.scale(undelivered=1500)
    assert (decision.replicas, decision.reason) == (2, "Step")
    desk = Desk({"scale": {"max": 20, "drainWithinSeconds": 3600, "maxAgeSeconds": 20}})
    desk.scale(undelivered=0)
    decision = desk.scale(undelivered=1500)
    assert decision.reason == "Age"
    assert decision.replicas >= 1500 / 10 / 20


@pytest.mark.parametrize(
    "paused", [{"paused": True}, {"branches": {"paused": True}}], ids=["pipeline", "branch"]
)
def test_what_is_paused_has_no_worker_whatever_waits_and_whatever_its_minimum(paused: dict[str, Any]):
    branch = {"scale": {"min": 2}} | paused.pop("branches", {})
    desk = Desk(branch, **paused)
    desk.flight.branches["pack"].workers = Workers(7, 7, 7)
    decision = desk.scale(undelivered=1500)
    assert (decision.replicas, decision.reason) == (0, "Paused")
    assert desk.place.calls == [("pack", 0, {})]


def test_a_schedule_lifts_the_minimum_in_its_hours_alone_and_no_higher_than_the_maximum():
    desk = Desk({"scale": {"max": 3, "scaleDownAfterSeconds": 1, "schedule": [OFFICE]}})
    assert desk.scale(undelivered=0).replicas == 0
    desk.wall = datetime.fromisoformat("2026-11-23T08:00:00+01:00")
    decision = desk.scale(undelivered=0)
    assert (decision.replicas, decision.reason) == (3, "Schedule")
    desk.wall = datetime.fromisoformat("2026-11-23T18:00:00+01:00")
    for _ in range(5):
        decision = desk.scale(undelivered=0)
    assert decision.replicas == 0


def test_a_namespace_of_a_total_gives_each_branch_its_share():
    wide = {"scale": {"max": 50}}
    desk = Desk({"name": "pack"} | wide, {"name": "bill"} | wide, total=10)
    first = desk.scale("pack", undelivered=15_000)
    assert (first.replicas, first.reason) == (10, "Total")
    assert "50 are wanted, but namespace shop may have 10 in all" in first.sentence
    assert desk.scale("bill", undelivered=15_000).replicas == 0, "what others run is not promised twice"
    for _ in range(3):
        replicas = [desk.scale(name, undelivered=15_000).replicas for name in ("pack", "bill")]
    assert replicas == [5, 5]
    assert sum(workers.workers.desired for workers in desk.flight.branches.values()) == 10


def test_a_branch_that_nobody_scales_is_left_alone_and_says_so():
    desk = Desk({"scale": {"engine": "None"}})
    desk.flight.branches["pack"].workers = Workers(3, 3, 3, foreign=True)
    decision = desk.scale(undelivered=15_000)
    assert desk.place.calls == []
    assert "scale.engine is None" in decision.sentence


def test_a_branch_that_cannot_be_measured_holds_and_one_that_is_closed_keeps_its_minimum():
    desk = Desk({"scale": {"min": 1}})
    desk.flight.branches["pack"].workers = Workers(4, 4, 4)
    decision = desk.scale()
    assert (decision.replicas, decision.reason) == (4, "Unknown")
    desk.flight.branches["pack"].closed = Closed(reason="410 Gone", target="", at="")
    decision = desk.scale(undelivered=1500)
    assert (decision.replicas, decision.reason) == (1, "Closed")


def test_of_long_handlers_only_idle_workers_are_stopped():
    desk = Desk({"scale": {"scaleDownAfterSeconds": 0}})
    memory = desk.flight.branches["pack"]
    memory.workers = Workers(6, 6, 6)
    memory.scaler = replace(KNOWN, rate=WorkerRate(handled=100, busy_seconds=6000))  # a minute each
    decision = desk.scale(undelivered=0, pending=3, holding={"w-1": 1, "w-2": 2, "w-3": 0})
    assert decision.replicas == 2
    assert "in the middle of long events" in decision.sentence
    memory.scaler, memory.workers = KNOWN, Workers(6, 6, 6)
    assert desk.scale(undelivered=0, pending=3, holding={"w-1": 1, "w-2": 2}).replicas == 1


def test_a_substrate_that_refuses_is_noted_and_asked_again():
    desk = Desk()
    desk.place.error = OSError("no API server")
    desk.scale(undelivered=1500)
    assert desk.flight.errors == ["branch pack: cannot scale to 5: no API server"]
    desk.place.error = None
    desk.scale(undelivered=1500)
    assert [call[1] for call in desk.place.calls] == [5]


def test_workers_that_end_by_themselves_slow_the_asking_down():
    desk = Desk({"scale": {"max": 50}})
    memory = desk.flight.branches["pack"]
    memory.workers = Workers(3, 3, 0)
    desk.scale(undelivered=0)
    memory.workers = Workers(3, 3, 0, restarts=3)
    desk.place.calls.clear()
    assert desk.scale(undelivered=15_000).reason == "SlowStart"
    assert desk.place.calls == []


@pytest.mark.parametrize("given", ["-1", "many", "1.5"])
def test_a_total_that_is_no_number_is_refused_with_what_to_give(monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv("HEADGATE_MAX_WORKERS_PER_NAMESPACE", given)
    with pytest.raises(ValueError, match=r"HEADGATE_MAX_WORKERS_PER_NAMESPACE: .*give a whole number"):
        OperatorSettings.from_environment()


def test_the_total_is_the_operators_setting_and_none_by_default(monkeypatch: pytest.MonkeyPatch):
    assert OperatorSettings.from_environment().most_workers == 0
    monkeypatch.setenv("HEADGATE_MAX_WORKERS_PER_NAMESPACE", "40")
    assert OperatorSettings.from_environment().most_workers == 40


def deployment(generation: int, replicas: int, ready: int, updated: int | None = None) -> dict[str, Any]:
    labels = {"headgate.dev/pipeline": "orders", "headgate.dev/branch": "pack"}
    updated = replicas if updated is None else updated
    return {
        "kind": "Deployment",
        "metadata": {
            "namespace": "shop", "name": "orders-pack", "uid": "u", "generation": generation, "labels": labels
        },
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": generation, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready
        },
    }  # fmt: skip


def test_of_a_deployment_readiness_lost_is_a_restart_but_not_in_a_roll_out_or_on_the_way_down():
    sightings = Sightings()

    def restarts(*seen: Any) -> int:
        sightings.take(deployment(*seen))
        return (sightings.workers(("shop", "orders")) or {})["pack"].restarts

    assert restarts(1, 5, 5) == 0
    assert restarts(1, 5, 3) == 2, "two of five went unready by themselves"
    assert restarts(1, 5, 5) == 2
    assert restarts(2, 2, 5) == 2, "fewer were asked for"
    assert restarts(2, 2, 2) == 2
    assert restarts(3, 2, 1, 1) == 2, "a roll-out replaces them"
    assert restarts(3, 2, 2, 1) == 2
    assert restarts(3, 2, 1, 1) == 2, "and goes on replacing them"
    assert restarts(3, 2, 2) == 2
    assert restarts(3, 2, 0) == 4


def test_a_decision_is_told_when_it_differs_from_the_one_before_and_not_each_second(
    monkeypatch: pytest.MonkeyPatch,
):
    told: list[str] = []
    world = World(monkeypatch, decided=told.append)
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=6)
    world.tick()
    assert told == ["Backlog", "Backlog"]  # two branches
    for _ in range(5):
        world.tick()
    assert told == ["Backlog", "Backlog", "Steady", "Steady"]


async def test_the_end_of_a_deployment_that_is_told_late_takes_nothing_from_the_one_made_after_it():
    """Its making is known from the answer to the apply, before the watch tells of either."""
    nobody: Any = None
    substrate = KubernetesSubstrate(nobody, None)
    old, new = deployment(1, 2, 2), deployment(1, 3, 3)
    new["metadata"]["uid"] = "made-again"
    substrate.saw("ADDED", new)
    substrate.saw("DELETED", old)
    orders = Desk().flight.pipeline
    assert {name: seen.desired for name, seen in (await substrate.observe(orders)).items()} == {"pack": 3}
    substrate.saw("DELETED", new)
    assert await substrate.observe(orders) == {}
