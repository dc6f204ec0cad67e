"""The keeper's loop: when it has a pass, when it only looks, and when it is known to hang."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator import keeper as keeper_module
from headgate_operator.cluster import on_answer
from headgate_operator.keeper import Keeper
from headgate_operator.leader import LeadershipLostError
from headgate_operator.pilot import Pilot
from headgate_operator.reconcile import Findings
from headgate_operator.servers import Servers
from headgate_operator.vitals import Vitals
from unit.pilots import NOOP
from unit.pipelines import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Pass = Callable[[], Awaitable[Findings]]

MANIFEST = {"metadata": {"namespace": "default", "name": "canal", "uid": "1", "generation": 1}}
DEPLOYMENT = {
    "metadata": {"namespace": "default", "name": "canal-a", "labels": {"headgate.dev/pipeline": "canal"}}
}


class Substrate:
    """Deployments that are as a test says."""

    is_other = False
    asked = 0

    def saw(self, _event: str | None, _deployment: object) -> bool:
        self.asked += 1
        return self.is_other

    def rotating(self, *_: str) -> bool:
        return False

    def forget(self, *_: str) -> None:
        pass


class House:
    """A keeper whose passes do what a test says; `passes` counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes = 0
        self.act: Pass = self.clean
        self.substrate: Any = Substrate()
        recorder: Any = SimpleNamespace()
        self.keeper = Keeper(
            cluster=recorder,
            substrate=self.substrate,
            servers=Servers(),
            pilot=Pilot(lambda _: recorder, self.substrate),
            recorder=recorder,
            vitals=Vitals(),
        )
        monkeypatch.setattr(keeper_module, "reconcile", self._reconcile)
        monkeypatch.setattr(self.keeper, "_report", self._nothing)

    async def clean(self) -> Findings:
        return Findings(1, None)

    async def _reconcile(self, *_: Any, **__: Any) -> Findings:
        self.passes += 1
        return await self.act()

    async def _nothing(self, *_: Any) -> None:
        return None


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    made = House(monkeypatch)
    keeping = asyncio.create_task(made.keeper.keep(MANIFEST))
    await asyncio.sleep(0)
    yield made
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0.001)


async def test_a_reading_or_an_unchanged_child_asks_for_no_pass(house: House):
    await turns()
    house.keeper.saw_deployment("MODIFIED", DEPLOYMENT)
    house.keeper._stir(("default", "canal"))
    await turns()
    assert (house.passes, house.substrate.asked) == (1, 1)


async def test_a_child_that_somebody_changed_asks_for_one(house: House):
    await turns()
    house.substrate.is_other = True
    house.keeper.saw_deployment("MODIFIED", DEPLOYMENT)
    await turns()
    assert house.passes == 2


@pytest.mark.parametrize(("is_other_afterwards", "passes"), [(False, 1), (True, 2)])
async def test_a_child_that_changes_during_a_pass_is_judged_when_that_is_through(
    monkeypatch: pytest.MonkeyPatch, is_other_afterwards: bool, passes: int
):
    house, through = House(monkeypatch), asyncio.Event()

    async def wait() -> Findings:
        await through.wait()
        return Findings(1, None)

    house.act = wait
    keeping = asyncio.create_task(house.keeper.keep(MANIFEST))
    await turns()
    house.substrate.is_other = True
    house.keeper.saw_deployment("ADDED", DEPLOYMENT)
    house.substrate.is_other = is_other_afterwards
    through.set()
    await turns(1)
    house.substrate.is_other = False
    await turns()
    assert house.passes == passes
    keeping.cancel()


async def test_a_deleted_pipeline_is_flown_no_more_though_a_pass_over_it_was_under_way(
    monkeypatch: pytest.MonkeyPatch,
):
    house, through = House(monkeypatch), asyncio.Event()
    flown_at_removal: list[bool] = []

    async def wait() -> Findings:
        await through.wait()
        return Findings(1, load(NOOP).pipeline)

    async def remove(_: object) -> None:
        flown_at_removal.append(house.keeper._pilot.flies("default", "noop"))

    manifest = {"metadata": MANIFEST["metadata"] | {"name": "noop"}}
    monkeypatch.setattr(house.keeper, "_is_assigned", lambda _: True)
    monkeypatch.setattr(house.keeper._remover, "remove", remove)
    house.act = wait
    keeping = asyncio.create_task(house.keeper.keep(manifest))
    await turns()
    cleaning = asyncio.create_task(house.keeper.clean_up(manifest))
    await turns()
    through.set()
    await cleaning
    assert flown_at_removal == [False]
    keeping.cancel()


async def test_a_pass_without_an_answer_is_told_by_name_but_not_one_that_waits_for_its_turn(
    monkeypatch: pytest.MonkeyPatch,
):
    house = House(monkeypatch)
    answers: list[Callable[[float], None]] = []

    async def hang() -> Findings:
        answers.append(on_answer.get())
        await asyncio.Event().wait()
        raise AssertionError

    house.act = hang
    keeping = asyncio.create_task(house.keeper.keep(MANIFEST))
    await turns()
    assert house.keeper.hung(60) == []
    assert house.keeper.hung(0) == ["default/canal"]
    answers[0](math.inf)
    assert house.keeper.hung(0) == []
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert house.keeper.hung(0) == [], "one that ended hangs no more"


async def test_a_process_that_may_not_write_any_more_tries_no_second_pass(monkeypatch: pytest.MonkeyPatch):
    house = House(monkeypatch)

    async def refused() -> Findings:
        raise LeadershipLostError("another leads")

    house.act = refused
    async with asyncio.timeout(5):
        await house.keeper.keep(MANIFEST)
    assert house.passes == 1


def made(uid: str, generation: int = 1) -> dict[str, Any]:
    """An object of one name; another uid is one that was made after it had been deleted."""
    return {"metadata": {"namespace": "default", "name": "canal", "uid": uid, "generation": generation}}


@pytest.mark.parametrize("event", ["a change of its spec", "a change of its Deployment"])
async def test_one_made_again_is_kept_though_the_end_of_the_one_before_is_told_after_its_beginning(
    monkeypatch: pytest.MonkeyPatch, event: str
):
    house = House(monkeypatch)
    house.keeper.saw_pipeline("ADDED", made("1"))
    house.keeper.saw_pipeline("ADDED", made("2"))
    keeping = asyncio.create_task(house.keeper.keep(made("2")))
    await turns()
    house.keeper.saw_pipeline("DELETED", made("1"))
    passes = house.passes
    if event == "a change of its spec":
        house.keeper.saw_pipeline("MODIFIED", made("2", generation=2))
    else:
        house.substrate.is_other = True
        house.keeper.saw_deployment("MODIFIED", DEPLOYMENT)
    await turns()
    assert house.passes == passes + 1
    keeping.cancel()


async def test_what_takes_the_one_before_down_is_waited_for_and_begins_no_more_when_another_is_there(
    monkeypatch: pytest.MonkeyPatch,
):
    house, let_go = House(monkeypatch), asyncio.Event()
    taken_down: list[str] = []

    async def remove(manifest: dict[str, Any]) -> None:
        taken_down.append(manifest["metadata"]["uid"])
        await let_go.wait()

    house.substrate.forget = lambda *_: None
    monkeypatch.setattr(house.keeper._remover, "remove", remove)
    house.keeper.saw_pipeline("ADDED", made("1"))
    cleaning = asyncio.create_task(house.keeper.clean_up(made("1")))
    await turns()
    house.keeper.saw_pipeline("ADDED", made("2"))
    keeping = asyncio.create_task(house.keeper.keep(made("2")))
    await turns()
    assert house.passes == 0, "keys and workers have the same names"
    let_go.set()
    await cleaning
    await turns()
    assert house.passes == 1
    await house.keeper.clean_up(made("1"))  # kopf was told of it once more, from before it was let go
    assert taken_down == ["1"]
    keeping.cancel()


async def test_what_was_found_of_the_one_before_is_not_told_of_the_one_made_again(
    monkeypatch: pytest.MonkeyPatch,
):
    house = House(monkeypatch)
    told: list[tuple[str, int]] = []

    async def report(room: Any, manifest: dict[str, Any]) -> None:
        if room.findings is not None:
            told.append((manifest["metadata"]["uid"], room.findings.generation))

    async def fail() -> Findings:
        raise RuntimeError("the API server is away")

    async def seventh() -> Findings:
        return Findings(7, None)

    monkeypatch.setattr(house.keeper, "_report", report)
    house.act = seventh
    first = asyncio.create_task(house.keeper.keep(made("1")))
    await turns()
    first.cancel()
    house.act = fail
    house.keeper.saw_pipeline("ADDED", made("2"))
    second = asyncio.create_task(house.keeper.keep(made("2")))
    await turns()
    house.keeper._stir(("default", "canal"))
    await turns()
    assert told == [("1", 7)]
    second.cancel()
