"""A real worker gives up what waited behind a gate for longer than its deadline: a dead letter that says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headgate.contract import JoinContract, Ordering
from headgate.event import Lane, NewEvent
from headgate.join import read_records
from headgate.streams import Gate, Server, read_dead_letters, set_gate
from streams.desk import desk
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.streams import PipelineKeys

JOIN = JoinContract(branches=("a", "b"), timeout_seconds=600)
WANTED = 'event.type == "wanted"'


def low(event_id: str, kind: str = "wanted") -> NewEvent:
    return NewEvent(id=event_id, data={"do": "return"}, key=event_id[0], type=kind, lane=Lane.LOW)


async def hold(server: Server, keys: PipelineKeys, deadline: int | None) -> None:
    gate = Gate(frozenset({Lane.LOW}), max_delay_seconds=900, deadline_seconds=deadline)
    await set_gate(server, keys, "a", gate, 60)


@pytest.mark.parametrize("ordering", Ordering)
async def test_what_a_gate_held_past_the_deadline_is_a_dead_letter_with_the_reason_and_no_other_is(
    server: Server, tmp_path: Path, ordering: Ordering
) -> None:
    async with desk(server, ("a", "b"), partitions=2, join=JOIN) as canal:
        await hold(server, canal.keys, 2)
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract("a", ordering=ordering, filter=WANTED))
            workers.start(canal.contract("b"))
            await canal.publish(
                *(low(f"{n}-late") for n in range(6)),
                *(low(f"{n}-other", "unwanted") for n in range(3)),
                NewEvent(id="0-high", data={"do": "return"}, key="0", type="wanted", lane=Lane.HIGH),
            )
            figures = await canal.settled("a", events=10)
            other = await canal.settled("b", events=10)
            letters = await read_dead_letters(server, canal.keys, "a")
            records = {record.id: record for record in await read_records(server, canal.keys)}
            log = workers.started[0].log()
            assert {each.event for each in workers.effects("begin") if each.lane == "low"} == {
                each.id
                for each in (*(low(f"{n}-late") for n in range(6)), *(low(f"{n}-other") for n in range(3)))
            }, "the other branch handles them all"
    assert (figures.done, figures.dead, figures.expired, figures.filtered) == (1, 6, 6, 3)
    assert (other.done, other.dead, other.expired) == (10, 0, 0)
    assert {letter.id for letter in letters} == {f"{n}-late" for n in range(6)}
    for letter in letters:
        assert "in lane low" in letter.error
        assert "backpressure.deadlineSeconds is 2" in letter.error
        assert letter.error in records[letter.id].failed["a"]
    assert '"event": "events.given_up"' in log


async def test_without_a_deadline_a_delayed_event_is_handled_however_late(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        await hold(server, canal.keys, None)
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract())
            await canal.publish(low("0-late"))
            await asyncio.sleep(3)
            assert (await canal.measured()).branches["a"].backlog == 1
            await set_gate(server, canal.keys, "a", Gate.OPEN, 60)
            figures = await canal.settled(events=1)
    assert (figures.done, figures.dead, figures.expired) == (1, 0, 0)
