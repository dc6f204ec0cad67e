"""A world for the pilot to fly in: servers that say what a test wants, and a place whose workers are ready at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.event import Lane
from headgate.streams import (
    BranchMeasurement,
    Closed,
    Ensured,
    Gate,
    LaneMeasurement,
    PipelineMeasurement,
    Swept,
)
from headgate_operator import gating, steering, topology
from headgate_operator import pilot as pilot_module
from headgate_operator.pilot import Pilot
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

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


class ServerName(str):
    """Stands for a server; one a namespace."""

    __slots__ = ()

    @property
    def url(self) -> str:
        return f"redis://{self}"


class World:
    """What servers would say; `None` is one that does not answer. `settings` are the pilot's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.now = 0.0
        self.measured = self.swept = 0
        self.while_measuring: Callable[[], None] = lambda: None
        self.found: dict[str, PipelineMeasurement | Exception | None] = {}
        self.hanging: dict[str, asyncio.Event] = {}
        """Servers that answer no sooner than their event is set."""
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
        settings = {"clock": lambda: self.now} | settings
        self.pilot = Pilot(lambda pipeline: ServerName(pipeline.namespace), self.place, **settings)  # type: ignore[arg-type,return-value]

    def tick(self, seconds: float = 1.0) -> dict[tuple[str, str], Any]:
        self.now += seconds
        return asyncio.run(self.pilot.tick())

    async def _measure(
        self, server: str, wanted: Any, _known: object = (), **_: object
    ) -> list[PipelineMeasurement | None]:
        self.measured += 1
        self.while_measuring()
        if server in self.hanging:
            await self.hanging[server].wait()
        found = self.found[server]
        if isinstance(found, Exception):
            raise found
        return [found for _ in wanted]

    async def _set_gate(self, _: str, _keys: object, branch: str, gate: Gate, _ttl: float) -> None:
        self.gates.append((branch, gate))

    async def _sweep(self, *_: object) -> Swept:
        self.swept += 1
        return Swept()

    async def _ensure(self, server: str, *_: object) -> Ensured:
        self.healed.append(server)
        return Ensured(made=("slow",))

    async def _read_closed(self, *_: object) -> Closed:
        self.asked += 1
        return Closed(reason="410 Gone", target="https://hooks.example", at="2026-01-31T12:00:00Z")

    async def _reopen(self, *_: object) -> bool:
        return False


def measured(high: int | None = 0, low: int = 0) -> PipelineMeasurement:
    """With a `high` of None as a branch without its group is measured."""
    lanes = {Lane.HIGH: LaneMeasurement(undelivered=high), Lane.LOW: LaneMeasurement(undelivered=low)}
    branch = BranchMeasurement(lanes=lanes, undelivered=None if high is None else high + low)
    return PipelineMeasurement(published=(high or 0) + low, branches={"fast": branch, "slow": branch})
