"""The doorbells' promises: what rang is told once, whoever was busy meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator import bells as bells_module
from headgate_operator.bells import Bells

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

STREAM = "hg:{default/noop:0}:normal"
HERE: Any = "a server"


class Tower:
    """Bells of one server, whose doorbell gives what a test puts into `rings`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rings: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.asked = 0
        self.bells = Bells(time.monotonic)
        monkeypatch.setattr(bells_module, "Doorbell", lambda _: self)

    async def wait(self, _last_ids: Mapping[str, str], _seconds: float) -> frozenset[str]:
        self.asked += 1
        return await self.rings.get()

    async def settle(self) -> None:
        """Lets what was put into `rings` be heard."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def tower(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tower]:
    made = Tower(monkeypatch)
    made.bells.listen({HERE: {STREAM: "0-0"}})
    await made.settle()
    yield made
    await made.bells.aclose()


def past() -> float:
    return time.monotonic() - 1


async def test_what_rang_is_told_once_though_the_time_to_wait_is_past(tower: Tower):
    assert await tower.bells.wait(past()) is None
    tower.rings.put_nowait(frozenset({STREAM}))
    await tower.settle()
    assert await tower.bells.wait(past()) == {STREAM}
    assert await tower.bells.wait(past()) is None


async def test_what_rang_while_nobody_waited_is_not_forgotten_by_listening_again(tower: Tower):
    tower.rings.put_nowait(frozenset({STREAM}))
    await tower.settle()
    tower.bells.listen({HERE: {STREAM: "0-0"}})
    assert await tower.bells.wait(past()) == {STREAM}
    assert tower.asked == 1


async def test_a_read_that_ended_without_an_event_is_asked_again(tower: Tower):
    tower.rings.put_nowait(frozenset())
    await tower.settle()
    tower.bells.listen({HERE: {STREAM: "0-0"}})
    tower.rings.put_nowait(frozenset({STREAM}))
    assert await tower.bells.wait(time.monotonic() + 60) == {STREAM}
    assert tower.asked == 2


async def test_who_listens_for_later_events_is_not_told_of_earlier_ones(tower: Tower):
    tower.rings.put_nowait(frozenset({STREAM}))
    await tower.settle()
    tower.bells.listen({HERE: {STREAM: "1-0"}})
    assert await tower.bells.wait(past()) is None
    assert tower.asked == 2
