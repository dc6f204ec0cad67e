"""The virtual clock of pipelines in users' tests: what only waits is skipped, exactly, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

from headgate import (
    Event,
    NewEvent,
    RetryLaterError,
)
from headgate.testing import pipeline
from headgate.testing.waiting import Waiting
from streams.desk import eventually
from streams.rehearsing import branch, echo, failing, manifest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_retry_of_minutes_passes_at_once_and_the_clock_knows_it_to_the_millisecond() -> None:
    spec = manifest(
        branch("charge", retry={"maxAttempts": 5, "initialSeconds": 300, "factor": 2, "maxSeconds": 1000}),
        join={"branches": ["charge"]},
    )
    handler = failing(*[RuntimeError("no")] * 4)
    async with pipeline(spec, handlers={"charge": handler}) as orders:
        await orders.publish({"total": 5}, id="o1")
        await orders.settled()
        (record,) = await orders.records()
        assert (record.id, record.complete, record.results) == ("o1", True, {"charge": "ok"})
        assert orders.seconds == 300 + 600 + 1000 + 1000
        attempts = orders.attempts("charge")
        assert [each.seconds for each in attempts] == [0, 300, 900, 1900, 2900]
        assert [each.event.attempt for each in attempts] == [1, 2, 3, 4, 5]
        assert [str(each.error) for each in attempts] == ["no", "no", "no", "no", "None"]


async def test_a_handler_that_asks_for_more_time_gets_exactly_that() -> None:
    spec = manifest(branch("charge", retry={"initialSeconds": 1}))
    handler = failing(RetryLaterError("busy", 30.5), RuntimeError("no"))
    async with pipeline(spec, handlers={"charge": handler}) as orders:
        await orders.publish(1)
        await orders.settled()
        assert [each.seconds for each in orders.attempts("charge")] == [0, 30.5, 32.5]


async def test_a_short_back_off_does_not_pass_by_itself() -> None:
    spec = manifest(branch("charge", retry={"initialSeconds": 1}))
    async with pipeline(spec, handlers={"charge": failing(RuntimeError("no"))}) as orders:
        await orders.publish(1)
        await orders.advance(0)
        await asyncio.sleep(1.2)
        assert (len(orders.attempts("charge")), orders.seconds) == (1, 0)
        await orders.advance(0.999)
        assert (len(orders.attempts("charge")), orders.seconds) == (1, 0.999)
        await orders.advance(0.001)
        assert (len(orders.attempts("charge")), orders.seconds) == (2, 1)


async def test_no_join_is_over_for_the_time_that_a_test_takes() -> None:
    spec = manifest(
        branch("charge"),
        branch("ship", retry={"initialSeconds": 300}),
        join={"branches": ["charge", "ship"], "timeoutSeconds": 1},
    )
    async with pipeline(
        spec, handlers={"charge": echo, "ship": failing(*[RuntimeError("no")] * 2)}
    ) as orders:
        await orders.publish(1, id="o1")
        await orders.advance(0.5)
        await orders.publish(2, id="o2")
        await orders.advance(0)
        await asyncio.sleep(1.2)
        await orders.advance(0.5)
        assert [record.id for record in await orders.records()] == ["o1"]


async def test_what_is_due_together_comes_in_the_order_in_which_it_failed() -> None:
    async def charge(event: Event) -> None:
        if event.attempt == 1:
            raise RuntimeError("no")

    spec = manifest(branch("charge", concurrency=1, retry={"initialSeconds": 9}))
    async with pipeline(spec, handlers={"charge": charge}) as orders:
        await orders.publish([NewEvent(data=number) for number in range(9, 0, -1)])
        await orders.settled()
        assert [each.event.data for each in orders.attempts("charge")] == [*range(9, 0, -1)] * 2
        assert orders.seconds == 9


async def test_advance_lets_all_come_due_that_is_due_by_then_each_in_its_time() -> None:
    spec = manifest(branch("charge", concurrency=1, retry={"initialSeconds": 10, "factor": 2}))
    handler = AsyncMock(side_effect=[RuntimeError("no")] * 5 + ["ok", "ok"])
    async with pipeline(spec, handlers={"charge": handler}) as orders:
        await orders.publish("early", id="early")
        await orders.advance(4)
        await orders.publish("late", id="late")
        await orders.advance(56)
        assert orders.seconds == 60
        seen = [(each.event.id, each.seconds) for each in orders.attempts("charge")]
        assert seen == [("early", 0), ("late", 4), ("early", 10), ("late", 14), ("early", 30), ("late", 34)]
        await orders.settled()
        assert orders.seconds == 70


async def test_a_join_out_of_time_emits_a_partial_record_without_waiting_for_it() -> None:
    spec = manifest(
        branch("charge"),
        branch("ship", retry={"initialSeconds": 3000, "maxSeconds": 3000}),
        join={"branches": ["charge", "ship"], "timeoutSeconds": 600},
    )
    async with pipeline(spec, handlers={"charge": echo, "ship": failing(RuntimeError("no"))}) as orders:
        await orders.publish(5, id="o1")
        await orders.advance(599.999)
        assert await orders.records() == []
        await orders.advance(0.001)
        (record,) = await orders.records()
        assert (record.complete, record.results, record.missing) == (False, {"charge": 5}, ("ship",))
        await orders.settled()
        assert orders.seconds == 3000
        assert len(await orders.records()) == 1
        assert (await orders.measure()).late == 1


async def test_a_retry_that_its_idle_worker_took_by_itself_still_comes_before_a_join_that_is_due_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_due = Waiting._make_due
    taken: list[str] = []

    async def make_due(self: Waiting, waiters: Any) -> Any:
        found = await made_due(self, waiters)
        if found and ":delayed:" in (key := waiters[0].key):
            names = {each.member for each in waiters}

            async def gone() -> bool:
                return names.isdisjoint({member for member, _ in await self._members(key)})

            await eventually(gone, "the worker's next look")
            taken.append(key)
        return found

    async def ship(event: Event) -> str:
        if event.attempt == 1:
            raise RuntimeError("no")
        await asyncio.sleep(0.3)
        return "ok"

    monkeypatch.setattr(Waiting, "_make_due", make_due)
    spec = manifest(
        branch("charge"),
        branch("ship", retry={"initialSeconds": 60}),
        join={"branches": ["charge", "ship"], "timeoutSeconds": 60},
    )
    async with pipeline(spec, handlers={"charge": echo, "ship": ship}) as orders:
        await orders.publish(5, id="o1")
        await orders.settled()
        (record,) = await orders.records()
        assert (record.complete, record.results) == (True, {"charge": 5, "ship": "ok"})
        assert orders.seconds == 60
    assert len(taken) == 1


async def test_each_joins_time_counts_from_its_own_first_outcome() -> None:
    spec = manifest(
        branch("charge"),
        branch("ship", filter="event.data.ships", retry={"initialSeconds": 9000, "maxSeconds": 9000}),
        join={"branches": ["charge", "ship"], "timeoutSeconds": 60, "onTimeout": "DeadLetter"},
    )
    async with pipeline(
        spec, handlers={"charge": echo, "ship": failing(*[RuntimeError("no")] * 2)}
    ) as orders:
        await orders.publish({"ships": True}, id="o1")
        await orders.advance(45)
        await orders.publish({"ships": True}, id="o2")
        await orders.advance(15)
        assert [each.id for each in await orders.dead_letters("@join")] == ["o1"]
        await orders.advance(45)
        assert [each.id for each in await orders.dead_letters("@join")] == ["o1", "o2"]


async def test_a_record_that_only_time_made_reaches_the_pipeline_it_is_for() -> None:
    orders_spec = manifest(
        branch("charge"),
        branch("ship", retry={"initialSeconds": 300}),
        join={"branches": ["charge", "ship"], "timeoutSeconds": 60, "output": {"pipeline": "books"}},
    )
    both = "\n---\n".join(json.dumps(each) for each in (orders_spec, manifest(branch("note"), name="books")))
    handlers = {"charge": echo, "ship": failing(RuntimeError("no")), "books/note": echo}
    async with pipeline(both, handlers=handlers) as orders:
        await orders.publish(5, id="o1")
        await orders.advance(60)
        (noted,) = orders.other("books").attempts("note")
        assert noted.event.data["missing"] == ["ship"]
        assert noted.seconds == 60


async def test_a_batch_is_handled_without_its_wait(tmp_path: Path) -> None:
    async def store(events: list[Event]) -> Any:
        return [RuntimeError("no") if event.data == 2 and event.attempt == 1 else None for event in events]

    spec = manifest(branch("store", batch={"maxEvents": 100, "maxWaitSeconds": 60}))
    async with pipeline(spec, handlers={"store": store}, folder=tmp_path) as orders:
        await orders.publish([NewEvent(data=number) for number in range(4)])
        await orders.settled()
        seen = [(each.event.data, each.error is None) for each in orders.attempts("store")]
        assert seen == [(0, True), (1, True), (2, False), (3, True), (2, True)]


async def test_a_rate_limit_holds_no_test_up() -> None:
    spec = manifest(branch("charge", rateLimit={"eventsPerSecond": 1}))
    async with pipeline(spec, handlers={"charge": echo}) as orders:
        await orders.publish([NewEvent(data=number) for number in range(30)])
        await orders.settled()
        assert len(orders.attempts("charge")) == 30


async def test_a_breakpoint_in_a_handler_is_nobodys_failed_attempt() -> None:
    async def look(event: Event) -> None:
        if event.data == 1:
            time.sleep(3.5)  # noqa: ASYNC251 - as a debugger does; outside of tests a lease would be over

    spec = manifest(branch("charge", ordering="Key", concurrency=1))
    async with pipeline(spec, handlers={"charge": look}) as orders:
        await orders.publish([NewEvent(data=number, key=f"k{number}") for number in (1, 2)])
        await orders.settled()
        seen = [(each.event.data, each.event.attempt, each.error) for each in orders.attempts("charge")]
        assert seen == [(1, 1, None), (2, 1, None)]
