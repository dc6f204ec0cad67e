"""The pilot's promises about pipelines at rest: seldom looked at, and at once when anything happens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace as replaced
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from headgate.event import Lane
from headgate.streams import BranchMeasurement, LaneMeasurement, PipelineMeasurement
from headgate_operator import bells as bells_module
from headgate_operator.pilot import REST_SECONDS, REST_SWEEP_SECONDS
from unit.pilots import NOOP, World, measured
from unit.pipelines import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

KEY = ("default", "noop")
STREAM = "hg:{default/noop:0}:normal"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(monkeypatch, rest_seconds=REST_SECONDS)
    made.pilot.add(load(NOOP).pipeline)
    made.found["default"] = measured()
    return made


def looks(world: World, ticks: int = 100) -> int:
    """How often it was measured in so many ticks."""
    before = world.measured
    for _ in range(ticks):
        world.tick()
    return world.measured - before


def of_branches(**figures: Any) -> PipelineMeasurement:
    return PipelineMeasurement(branches={name: BranchMeasurement(**figures) for name in ("fast", "slow")})


def test_one_at_rest_is_looked_at_every_ten_seconds(world: World):
    world.tick()
    assert 8 <= looks(world) <= 12


@pytest.mark.parametrize(
    "found",
    [
        measured(high=1),
        of_branches(pending=1),
        of_branches(delayed=1),
        structs.replace(measured(), open_joins=1),
        structs.replace(measured(), outbox=1),
        of_branches(undelivered=None),
        None,
    ],
    ids=["undelivered", "in a handler", "a retry", "a join", "to relay", "a lost group", "unmeasurable"],
)
def test_one_with_anything_under_way_is_looked_at_every_second(
    world: World, found: PipelineMeasurement | None
):
    world.found["default"] = found
    assert looks(world) == 100


def test_one_whose_workers_wait_for_the_window_is_not_at_rest_until_they_are_gone(world: World):
    world.found["default"] = measured(high=6)
    world.tick()
    assert world.place.workers["default/noop/slow"] == 3
    world.found["default"] = measured()
    for _ in range(20):
        world.tick()
    assert world.place.workers == {"default/noop/fast": 0, "default/noop/slow": 0}
    assert 8 <= looks(world) <= 12


def test_what_a_paused_pipeline_holds_keeps_nobody_awake(world: World):
    pipeline = load(NOOP).pipeline
    world.pilot.add(replaced(pipeline, spec=pipeline.spec.model_copy(update={"paused": True})))
    world.found["default"] = of_branches(
        undelivered=5,
        lanes={lane: LaneMeasurement(undelivered=5 if lane is Lane.NORMAL else 0) for lane in Lane},
    )
    for _ in range(20):
        world.tick()
    assert 8 <= looks(world) <= 12
    assert world.place.calls == []


def test_one_that_is_woken_is_looked_at_by_the_next_tick(world: World):
    world.tick()
    world.tick()
    assert world.measured == 1
    world.pilot.wake(*KEY)
    world.tick()
    assert world.measured == 2


def test_one_that_is_woken_while_it_is_looked_at_is_looked_at_again(world: World):
    world.while_measuring = lambda: world.pilot.wake(*KEY)
    assert looks(world, 5) == 5


def test_its_workers_are_seen_at_the_next_look_though_nothing_else_changed(world: World):
    reading = world.tick()[KEY]
    world.place.workers["default/noop/slow"] = 2
    for _ in range(12):
        world.tick()
    assert world.pilot.readings[KEY] is not reading
    assert world.place.workers["default/noop/slow"] == 0, "nobody needs what somebody else asked for"


def test_nobody_is_told_of_a_look_that_found_what_the_last_one_did(world: World):
    told: list[tuple[str, str]] = []
    world.pilot.listeners.append(told.append)
    for _ in range(int(REST_SWEEP_SECONDS) - 5):
        world.tick()
    assert told == [KEY]
    assert world.swept == 1
    for _ in range(20):
        world.tick()
    assert world.swept == 2, "but swept it is, once a minute"


def test_a_tick_that_is_not_permitted_looks_at_nobody(monkeypatch: pytest.MonkeyPatch):
    def forbid() -> None:
        raise PermissionError("another leads")

    world = World(monkeypatch, permit=forbid)
    world.pilot.add(load(NOOP).pipeline)
    world.found["default"] = measured(high=6)
    with pytest.raises(PermissionError):
        world.tick()
    assert (world.measured, world.place.calls) == (0, [])


class Chime:
    """A doorbell that rings when it is told to."""

    heard: Mapping[str, str] = {}
    listened = 0
    rings: asyncio.Event

    def __init__(self, _: str) -> None:
        pass

    async def wait(self, last_ids: Mapping[str, str], _seconds: float) -> frozenset[str]:
        Chime.heard, Chime.listened = last_ids, Chime.listened + 1
        await Chime.rings.wait()
        Chime.rings.clear()
        return frozenset({STREAM})


@pytest.fixture
async def chiming(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world that flies by itself, with one at rest that nobody looks at for a minute unless its doorbell rings."""
    monkeypatch.setattr(bells_module, "Doorbell", Chime)
    Chime.rings, Chime.listened = asyncio.Event(), 0
    world = World(monkeypatch, rest_seconds=60, clock=time.monotonic)
    world.found["default"] = structs.replace(measured(), last_ids={STREAM: "0-0"})
    world.pilot.add(load(NOOP).pipeline)
    flying = asyncio.create_task(world.pilot.run())
    yield world
    flying.cancel()
    await asyncio.gather(flying, return_exceptions=True)


async def ring_and_scale(world: World) -> None:
    """Rings for what is at rest and returns when it has its workers."""
    world.found["default"] = structs.replace(measured(high=6), last_ids={STREAM: "1-0"})
    scaled, wanted = asyncio.Event(), ("default/noop", "slow", 3)
    world.pilot.listeners.append(lambda _: scaled.set() if wanted in world.place.calls else None)
    Chime.rings.set()
    async with asyncio.timeout(20):
        await scaled.wait()


async def test_an_event_rings_for_one_at_rest_and_its_workers_come_at_once(chiming: World):
    await asyncio.sleep(2.5)
    assert (chiming.measured, Chime.listened) == (1, 1), "one read, kept from tick to tick"
    assert Chime.heard == {STREAM: "0-0"}
    await ring_and_scale(chiming)


async def test_a_server_that_hangs_makes_nobody_deaf_to_the_bells_of_others(chiming: World):
    chiming.hanging["other"] = asyncio.Event()
    chiming.pilot.add(load(NOOP, "other").pipeline)
    await asyncio.sleep(2.5)
    assert chiming.measured == 2, "the one at rest, and the one that hangs: both once"
    await ring_and_scale(chiming)


async def test_one_at_rest_is_listened_to_while_its_server_is_slow_to_answer_for_another(chiming: World):
    await asyncio.sleep(0.5)
    chiming.hanging["default"] = asyncio.Event()
    busy = replaced(load(NOOP).pipeline, name="busy")
    chiming.pilot.add(busy)
    await asyncio.sleep(2.5)
    assert (chiming.measured, Chime.listened) == (2, 1), "one read, kept while the other is looked at"
    chiming.hanging.pop("default").set()
    await ring_and_scale(chiming)
