"""Real workers of an ordered branch: order by key, whatever fails, dies, freezes or comes and goes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import BranchContract, Ordering, RetryContract
from headgate.event import NewEvent
from headgate.streams import Server
from streams.desk import Desk, desk
from streams.workers import Effect, workers_in

if TYPE_CHECKING:
    from pathlib import Path

# Attempts enough for whatever is done to the workers: nothing here fails by its own fault.
RETRY = RetryContract(max_attempts=100, initial_seconds=0.05, factor=1, max_seconds=0.05)


@pytest.fixture
async def valkey(valkey_url: str):
    server = Server.connect(valkey_url)
    yield server
    await server.aclose()


def contract(canal: Desk, **settings: Any) -> BranchContract:
    return canal.contract(**{"ordering": Ordering.KEY, "claim_after_seconds": 3, "retry": RETRY, **settings})


def of_key(key: str, number: int, do: str = "return") -> NewEvent:
    """Event `number` of a key; its id says both."""
    return NewEvent(id=f"{key}.{number}", key=key, data={"do": do})


def begun(effects: list[Effect]) -> dict[str, list[int]]:
    """By key, the numbers of the events in the order they were begun, each where it was begun first."""
    found: dict[str, list[int]] = defaultdict(list)
    for effect in effects:
        key, number = effect.event.split(".")
        if int(number) not in found[key]:
            found[key].append(int(number))
    return found


def assert_in_order(effects: list[Effect], keys: dict[str, int]) -> None:
    """Every event of every key was begun, none before the one that goes before it."""
    assert begun(effects) == {key: list(range(count)) for key, count in keys.items()}


async def test_events_of_a_key_are_handled_one_after_another_in_the_order_they_were_published(
    server: Server, tmp_path: Path
) -> None:
    keys = {f"k{n}": 20 for n in range(8)}
    async with desk(server, partitions=3) as canal:
        await canal.publish(
            *(of_key(key, n, "fail-once" if n % 7 == 3 else "return") for n in range(20) for key in keys)
        )
        with workers_in(tmp_path, server.url) as workers:
            workers.start(contract(canal))
            figures = await canal.settled(events=160)
            effects = workers.effects()
    assert (figures.done, figures.dead) == (160, 0)
    assert_in_order([effect for effect in effects if effect.what == "begin"], keys)
    under_way: dict[str, str] = {}
    for effect in effects:
        key = effect.event.split(".")[0]
        if effect.what == "begin":
            before = under_way.get(key)
            assert before in (None, effect.event), f"{effect.event} began before {before} was through"
            under_way[key] = effect.event
        else:
            assert under_way.pop(key) == effect.event
