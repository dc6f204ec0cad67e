"""All walks of a run, over the lanes: the references first, then deaths, then weather."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import TYPE_CHECKING, Any

from chaos.operator import state
from chaos.operator.api import Api
from chaos.operator.lane import Lane
from chaos.operator.points import Points
from chaos.operator.script import script
from chaos.operator.walk import Tally, Walker
from chaos.operator.weather import Kind, Weather
from headgate_operator.crd import crd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from chaos.operator.state import State
    from cluster.apiserver import ApiServer

_REFERENCES = 2
_ENOUGH = 20
"""Differences after which a run ends: the next ones would be the same."""
_CRD_SECONDS = 60.0
_SAY_SECONDS = 10.0


class Campaign:
    """One run on one API server; `folder` gets the operators' logs."""

    def __init__(self, server: ApiServer, folder: Path, seed: str, say: Callable[[str], None]) -> None:
        self._server = server
        self._folder = folder
        self._seed = seed
        self._say = say
        self._base_ms = int(time.time() * 1000)
        self.points = Points()
        self.tally = Tally()
        self._reference: list[State] = []

    async def run(self, *, lanes: int, sample: int = 0, twice: int = 0, storms: int = 0) -> dict[str, Any]:
        """Walks until all is done; `sample` crash points instead of all, when it is not 0. Gives the figures."""
        async with contextlib.AsyncExitStack() as opened:
            api = Api(self._server.kubeconfig)
            opened.push_async_callback(api.aclose)
            await self._install(api)
            ready = [
                await opened.enter_async_context(Lane.open(api, self._folder / f"{number}", self._base_ms))
                for number in range(lanes)
            ]
            async with asyncio.TaskGroup() as references:
                for number, lane in enumerate(ready[:_REFERENCES]):
                    references.create_task(self._refer(lane, number))
            dice = random.Random(self._seed)
            if sample:
                self.points.sample(dice, sample)
            self._say(f"{self.points.left} crash points in {len(script())} changes")
            jobs = self._jobs(dice, twice, storms)
            watching = asyncio.create_task(self._progress())
            try:
                async with asyncio.TaskGroup() as working:
                    for lane in ready:
                        working.create_task(self._work(lane, jobs))
            finally:
                watching.cancel()
        for change, point in self.points.unmet:
            self._say(f"never met: {script()[change].name}, {point}")
        return self.figures()

    def figures(self) -> dict[str, Any]:
        """The last line, but for time and seed."""
        return {
            "crashPoints": self.points.struck,
            "differences": len(self.tally.differences),
            "unmet": len(self.points.unmet),
            "mostUnmet": self.points.most_unmet,
            "crashes": self.tally.crashes,
            "runs": self.tally.runs,
            "faultRuns": self.tally.fault_runs,
            "faults": self.tally.faults,
            "exits": self.tally.exits,
            "changes": len(script()),
        }

    async def _install(self, api: Api) -> None:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd()['metadata']['name']}"
        apply = "application/apply-patch+yaml"
        await api.call("PATCH", f"{path}?fieldManager=user&force=true", crd(), apply)
        deadline = time.monotonic() + _CRD_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):
                # Served by discovery and by OpenAPI: only then does an apply by a user know its fields.
                await api.call("GET", "/openapi/v3/apis/headgate.dev/v1alpha1")
                return
            await asyncio.sleep(0.1)
        raise RuntimeError("the API server does not serve FanoutPipelines")

    async def _refer(self, lane: Lane, number: int) -> None:
        """A walk without harm: the first gives the states, all give the writes."""
        await lane.enter(f"reference-{number}", Weather(Kind.FAIR, "", 1))
        states = []
        for place, change in enumerate(script()):
            lane.fate.renew()
            await lane.make(change)
            states.append(await lane.settled())
            self.points.add(place, lane.fate.counts)
        if not self._reference:
            self._reference = states
            (self._folder / "reference.json").write_text(json.dumps(states, indent=1))
            return
        for change, wanted, found in zip(script(), self._reference, states, strict=True):
            if differs := state.difference(wanted, found):
                self.tally.differences.append(differs)
                self._say(f"DIFFERENCE between two references, {change.name}:\n{differs[:4000]}")

    def _jobs(
        self, dice: random.Random, twice: int, storms: int
    ) -> list[Callable[[Walker], Awaitable[None]]]:
        """What is left when all points are struck, the longest last, as they are taken from the end."""

        def second(seed: str) -> Callable[[Walker], Awaitable[None]]:
            return lambda walker: walker.crash_twice(random.Random(seed))

        def stormy(kind: Kind, seed: str) -> Callable[[Walker], Awaitable[None]]:
            return lambda walker: walker.storm(kind, seed)

        jobs = [second(f"{self._seed}/twice/{number}") for number in range(twice)]
        jobs.append(lambda walker: walker.rest())
        kinds = [kind for kind in Kind if kind is not Kind.FAIR]
        jobs += [stormy(kind, f"{self._seed}/{number}") for kind in kinds for number in range(storms)]
        dice.shuffle(jobs)
        return jobs

    async def _work(self, lane: Lane, jobs: list[Callable[[Walker], Awaitable[None]]]) -> None:
        walker = Walker(lane, self._reference, self.tally, self._say)
        while len(self.tally.differences) < _ENOUGH:
            if jobs and self.points.left == 0:
                await jobs.pop()(walker)
            elif self.points.left:
                await walker.crash(self.points)
            else:
                return

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(_SAY_SECONDS)
            self._say(
                f"{self.points.struck} of {self.points.total} points, {self.tally.runs} runs,"
                f" {len(self.tally.differences)} differences"
            )
