"""A burst on a branch at zero, at the running pilot over real servers: straight to the workers it needs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from headgate_operator import pilot as pilot_module
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.pilot import Pilot
from headgate_operator.pipeline import load_pipeline
from headgate_operator.substrates import Workers
from streams.desk import desk, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

    from headgate.streams import Server
    from headgate_operator.pipeline import Pipeline


class Written:
    """A substrate on which workers are numbers that never become ready."""

    def __init__(self) -> None:
        self.asked: list[int] = [0]
        self.observed: Callable[[], None] = lambda: None

    async def apply(self, _: Pipeline) -> int:
        return 0

    async def observe(self, _: Pipeline) -> dict[str, Workers]:
        self.observed()
        return {"a": Workers(self.asked[-1])}

    async def scale(self, _: Pipeline, _branch: str, replicas: int, _holding: Mapping[str, int]) -> None:
        self.asked.append(replicas)

    async def remove(self, _: Pipeline) -> None:
        self.asked.append(0)


PIPELINE = load_pipeline(
    {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": "test", "name": "canal"},
        "spec": {
            "branches": [
                {
                    "name": "a",
                    "handler": {"python": {"image": "canal:1", "function": "canal:work"}},
                    "concurrency": 1,
                    "scale": {"max": 32},
                }
            ]
        },
    }
)


async def test_the_rest_of_a_burst_is_seen_long_before_the_next_tick(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(server) as canal:
        place = Written()
        pilot = Pilot(lambda _: server, place)
        pilot.add(PIPELINE)
        await pilot.tick()
        monkeypatch.setattr(pilot_module, "TICK_SECONDS", 3600.0)  # the next tick never comes
        flying = asyncio.create_task(pilot.run())

        async def asked(*replicas: int) -> None:
            async def is_so() -> bool:
                return place.asked == [0, *replicas]

            await eventually(is_so, f"replicas {replicas}")

        try:
            await asyncio.sleep(0.2)  # it listens
            await canal.publish(0)
            await asked(1)
            await canal.publish(*range(1, 64))
            await asked(1, 32)
        finally:
            flying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flying


async def test_the_bell_is_heard_although_a_change_of_the_workers_asked_for_a_look_at_the_next_tick(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(server) as canal:
        place = Written()
        pilot = Pilot(lambda _: server, place)
        pilot.add(PIPELINE)
        place.observed = lambda: pilot.wake("test", "canal")  # as the watch of Deployments does
        await pilot.tick()
        monkeypatch.setattr(pilot_module, "TICK_SECONDS", 3600.0)  # the next tick never comes
        flying = asyncio.create_task(pilot.run())

        async def asked() -> bool:
            return place.asked == [0, 1]

        try:
            await asyncio.sleep(0.2)  # it listens
            await canal.publish(0)
            await eventually(asked, "a worker", 10)
        finally:
            flying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flying
