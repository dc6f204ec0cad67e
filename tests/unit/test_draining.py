"""Branches on their way out: how many workers stay, and what a pass makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headgate.streams import BranchMeasurement, Ensured, PipelineMeasurement, Server
from headgate_operator import steering, topology
from headgate_operator.draining import Draining, needed
from headgate_operator.flight import Flight
from headgate_operator.pilot import Pilot
from headgate_operator.reconcile import reconcile
from headgate_operator.substrates import Workers
from unit.pipelines import manifest, pipeline


@pytest.mark.parametrize(
    ("current", "backlog", "paused", "workers"),
    [
        (5, 1000, False, 5),
        (5, 3, False, 3),
        (0, 3, False, 1),
        (5, 0, False, 0),
        (5, None, False, 5),
        (0, None, False, 0),
        (5, 1000, True, 0),
    ],
)
def test_as_many_workers_stay_as_there_are_events_left(
    current: int, backlog: int | None, paused: bool, workers: int
) -> None:
    assert needed(current, backlog, paused=paused) == workers


class Place:
    """A substrate that remembers what it was asked for."""

    def __init__(self) -> None:
        self.scaled: list[tuple[str, int]] = []
        self.applied: list[Any] = []

    async def apply(self, applied: Any) -> int:
        self.applied.append(applied.draining)
        return 0

    async def observe(self, _: Any) -> dict[str, Workers]:
        return {}

    async def scale(self, _: Any, branch: str, replicas: int, _holding: Any) -> None:
        self.scaled.append((branch, replicas))


def leaving(*names: str, **spec: Any) -> Flight:

    return Flight(replace(pipeline(**spec), draining=frozenset(names)))


def measured(**backlogs: int | None) -> PipelineMeasurement:
    return PipelineMeasurement(
        branches={name: BranchMeasurement(undelivered=left) for name, left in backlogs.items()}
    )


async def test_the_pilot_scales_what_drains_and_tells_what_is_left() -> None:
    place = Place()
    workers = {"old": Workers(4, 4, 4), "older": Workers(2, 2, 2), "oldest": Workers(1, 1, 1)}
    flight = leaving("old", "older", "oldest", "never")
    found = measured(old=2, older=None, oldest=0, never=9)
    told = await Draining(place).scale(flight, found, workers)  # type: ignore[arg-type]
    assert told == {"old": 2, "older": None, "oldest": 0, "never": 9}
    assert sorted(place.scaled) == [("old", 2), ("oldest", 0)]


async def test_what_cannot_be_measured_or_observed_is_held() -> None:
    place = Place()
    flight = leaving("old")
    for found, workers in ((None, {"old": Workers(4, 4, 4)}), (measured(old=1), None)):
        told = await Draining(place).scale(flight, found, workers)  # type: ignore[arg-type]
        assert told == {"old": None if found is None else 1}
    assert place.scaled == []


async def connected(_: Any) -> Server:
    return Server.connect("redis://127.0.0.1:1")


async def test_a_pass_tells_the_substrate_what_drains_as_the_server_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def ensure_groups(*arguments: Any) -> Ensured:
        asked.append(arguments)
        return Ensured(draining={"old": 7})

    monkeypatch.setattr(topology, "ensure_groups", ensure_groups)
    place = Place()
    findings = await reconcile(manifest(paused=True), substrate=place, connect=connected)  # type: ignore[arg-type]
    assert place.applied == [frozenset({"old"})]
    assert findings.draining == {"old": 7}
    assert findings.pipeline is not None
    assert findings.pipeline.drains("old")
    ((_, _, starts, _, removal),) = asked
    assert [start.paused for start in starts] == [True]
    assert (removal.drain, removal.paused) == (True, True)


@pytest.mark.parametrize(("on_remove", "draining"), [("Drain", None), ("Delete", frozenset())])
async def test_while_the_server_is_away_no_workers_of_a_removed_branch_go_unless_it_may_go_at_once(
    on_remove: str, draining: frozenset[str] | None
) -> None:
    place = Place()
    asked = manifest(onRemove=on_remove)
    findings = await reconcile(asked, substrate=place, connect=connected)  # type: ignore[arg-type]
    assert findings.redis is not None
    assert place.applied == [draining]


async def test_each_branch_is_paused_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def ensure_groups(*arguments: Any) -> Ensured:
        asked.append(arguments)
        return Ensured()

    monkeypatch.setattr(topology, "ensure_groups", ensure_groups)
    asked_for = manifest({"name": "a", "paused": True}, {"name": "b", "ordering": "Key"}, onRemove="Delete")
    await reconcile(asked_for, substrate=Place(), connect=connected)  # type: ignore[arg-type]
    ((_, _, starts, _, removal),) = asked
    assert [(start.name, start.paused, start.ordered) for start in starts] == [
        ("a", True, False),
        ("b", False, True),
    ]
    assert (removal.drain, removal.paused) == (False, False)


async def test_each_second_the_pilot_lets_branches_read_new_partitions_that_are_through_with_the_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[frozenset[str]] = []
    answers = [frozenset({"b"}), frozenset()]

    async def release_grown(_server: object, _keys: object, branches: frozenset[str]) -> frozenset[str]:
        asked.append(branches)
        return answers[len(asked) - 1]

    monkeypatch.setattr(steering, "release_grown", release_grown)
    world = Pilot(lambda _: "server", Place(), clock=lambda: float(len(asked)))  # type: ignore[arg-type,return-value]
    world.add(pipeline().waiting(frozenset({"a", "b"})))
    (flight,) = world._flights.values()
    flight.swept = float("inf")
    for _ in range(3):
        await world._steering.steer("server", flight, None, 0.0)  # type: ignore[arg-type]
    assert asked == [{"a", "b"}, {"b"}]
    assert not flight.pipeline.is_changing


async def test_what_drains_is_still_known_when_a_pass_could_not_ask_the_server() -> None:
    world = Pilot(lambda _: "server", Place())  # type: ignore[arg-type,return-value]
    world.add(pipeline().leaving(frozenset({"old"})).waiting(frozenset({"a"})))
    world.add(pipeline(paused=True).leaving(None))
    (flight,) = world._flights.values()
    assert flight.pipeline.spec.paused
    assert flight.pipeline.measured_names == ("pack", "old")
    assert flight.pipeline.growing == {"a"}
