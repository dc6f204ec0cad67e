"""When a run of several pipelines ends: an event between two of them must not go unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.streams import BranchMeasurement, PipelineMeasurement, Server
from headgate_cli import local_ending
from headgate_cli.exits import Exit
from headgate_cli.local_ending import Ended, Ending
from headgate_cli.local_pipeline import LocalPipeline
from headgate_cli.manifests import load_all
from headgate_operator.readings import PipelineReading
from headgate_operator.substrates.local import LocalSubstrate

SHOP = Path(__file__).parents[1] / "data" / "shop" / "pipeline.yaml"
Figures = list[PipelineMeasurement]


class World:
    """Three pipelines of which measurements are found in turn; `readings` are what the pilot saw of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nowhere = Server.connect("redis://127.0.0.1:1")
        self.pipelines = [LocalPipeline(each, nowhere, print) for each in load_all(SHOP)]
        for each in self.pipelines:
            each.before = self._figures(each)
        self.found: list[Figures] = []
        substrate = LocalSubstrate(nowhere, folder, folder)
        self.ending = Ending(nowhere, self.pipelines, substrate, publisher=None, limit=None, logs=folder)
        monkeypatch.setattr(local_ending, "measured", self._measured)

    async def _measured(self, *_: object) -> Figures:
        return self.found.pop(0)

    def settled(self) -> Figures:
        return [self._figures(each) for each in self.pipelines]

    def busy(self, number: int) -> Figures:
        found = self.settled()
        found[number] = self._figures(self.pipelines[number], undelivered=1)
        return found

    def readings(self, found: Figures) -> list[PipelineReading]:
        return [
            PipelineReading(each.pipeline, figures, {}, "", 0.0)
            for each, figures in zip(self.pipelines, found, strict=True)
        ]

    @staticmethod
    def _figures(pipeline: LocalPipeline, undelivered: int = 0) -> PipelineMeasurement:
        names = pipeline.pipeline.branch_names
        return PipelineMeasurement(
            branches={name: BranchMeasurement(undelivered=undelivered) for name in names}
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_one_pipeline_that_is_not_settled_keeps_all(world: World, number: int):
    assert await world.ending.look(world.readings(world.busy(number))) is None


async def test_what_only_seems_settled_is_measured_before_it_is_believed(world: World):
    world.found = [world.busy(2)]
    assert await world.ending.look(world.readings(world.settled())) is None
    assert world.found == []


async def test_an_event_that_went_from_one_to_another_while_both_were_measured_keeps_the_run(world: World):
    seen = world.readings(world.settled())
    first = world.settled()
    # The first was measured before the event came to it, the second after it had left its outbox.
    world.found = [first, [*world.busy(0)[:1], *first[1:]]]
    assert await world.ending.look(seen) is None
    # Settled again since; one more time it was another one.
    world.found = [first, [*world.settled()[:1], *first[1:]]]
    assert await world.ending.look(seen) is None
    world.found = [first, first]
    assert await world.ending.look(seen) == Ended(Exit.OK)
    assert world.found == []
