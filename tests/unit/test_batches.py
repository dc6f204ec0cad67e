"""Batches in the slots: how they fill, and what becomes of each event of one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import pytest

from headgate import PermanentError, RetryLaterError
from headgate.contract import BatchSettings, BranchContract
from headgate.event import Event
from headgate.handlers.python import LoopHandler
from headgate.streams.outcome import Delivery, Kind, Outcome
from headgate.worker.composer import Composer
from headgate.worker.runners import Runners

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


def delivery(number: int, *, invalid: str | None = None) -> Delivery:
    return Delivery(Event(id=str(number), body=b"1"), 2, b"%d-0" % number, "w.x", 0.0, invalid=invalid)


class Bench:
    """Runners with batches, the batches their handler got, and what came out."""

    def __init__(
        self,
        answer: Callable[[Sequence[Event]], Any],
        most: int = 3,
        wait: float = 60,
        concurrency: int = 1,
        timeout: float = 60,
    ) -> None:
        self.batches: list[list[str]] = []
        self.outcomes: list[Outcome] = []

        async def handle(events: Sequence[Event]) -> Any:
            self.batches.append([event.id for event in events])
            answered = answer(events)
            return await answered if asyncio.iscoroutine(answered) else answered

        contract = BranchContract(
            namespace="n",
            pipeline="p",
            branch="b",
            function="m:f",
            concurrency=concurrency,
            timeout_seconds=timeout,
            batch=BatchSettings(max_events=most, max_wait_seconds=wait),
        )
        self.handler = LoopHandler(handle)
        self.runners = Runners(self.handler, contract, Composer(contract), self.outcomes.append)

    async def __aenter__(self) -> Self:
        self.runners.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runners.stop()
        await self.runners.drain(0)

    async def until(self, outcomes: int) -> dict[str, Outcome]:
        """The outcomes by event, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.outcomes) < outcomes:  # noqa: ASYNC110 - the runners know nothing of who waits
                await asyncio.sleep(0.005)
        return {outcome.delivery.event.id: outcome for outcome in self.outcomes}


async def test_full_batches_do_not_wait_and_the_rest_does() -> None:
    async with Bench(lambda _: None) as bench:
        bench.runners.put([delivery(n) for n in range(7)])
        await bench.until(6)
        await asyncio.sleep(0.05)
        assert bench.batches == [["0", "1", "2"], ["3", "4", "5"]]
        bench.runners.put([delivery(n) for n in range(7, 9)])
        await bench.until(9)
    assert bench.batches[2] == ["6", "7", "8"]


async def test_a_batch_that_does_not_fill_is_handled_when_its_first_event_has_waited_long_enough() -> None:
    async with Bench(lambda _: None, wait=0.05) as bench:
        bench.runners.put([delivery(0), delivery(1)])
        await bench.until(2)
    assert bench.batches == [["0", "1"]]


async def test_slots_handle_batches_side_by_side() -> None:
    both = asyncio.Barrier(2)

    async def meet(_: Sequence[Event]) -> None:
        await both.wait()

    async with Bench(meet, concurrency=2) as bench:
        bench.runners.put([delivery(n) for n in range(6)])
        await bench.until(6)


async def test_each_event_of_a_batch_has_its_own_outcome() -> None:
    answers = [{"n": 1}, ValueError("torn"), PermanentError("never")]
    async with Bench(lambda _: answers) as bench:
        bench.runners.put([delivery(n) for n in range(3)])
        found = await bench.until(3)
    assert (found["0"].kind, found["0"].detail) == (Kind.DONE, b'{"n":1}')
    assert (found["1"].kind, found["1"].detail) == (Kind.RETRY, b"ValueError: torn")
    assert (found["2"].kind, found["2"].detail) == (Kind.DEAD, b"never")


async def test_an_exception_is_every_events_failure() -> None:
    def fail(_: Sequence[Event]) -> None:
        raise RetryLaterError("busy", seconds=7)

    async with Bench(fail) as bench:
        bench.runners.put([delivery(n) for n in range(3)])
        found = await bench.until(3)
    assert {(each.kind, each.delay_ms) for each in found.values()} == {(Kind.RETRY, 7000)}


@pytest.mark.parametrize("answer", [[1, 2], "abc", {"0": 1}, 3])
async def test_an_answer_that_is_no_list_of_an_outcome_an_event_is_a_failure_that_says_so(
    answer: Any,
) -> None:
    async with Bench(lambda _: answer) as bench:
        bench.runners.put([delivery(n) for n in range(3)])
        found = await bench.until(3)
    assert all(each.kind is Kind.RETRY for each in found.values())
    assert b"one result or exception an event: 3 events" in found["0"].detail


async def test_what_is_no_event_is_dead_lettered_and_not_handed_over() -> None:
    async with Bench(lambda _: None) as bench:
        bench.runners.put([delivery(0), delivery(1, invalid="no data"), delivery(2)])
        found = await bench.until(3)
    assert bench.batches == [["0", "2"]]
    assert (found["1"].kind, found["1"].detail) == (Kind.DEAD, b"no data")


async def test_a_batch_out_of_time_is_cancelled_and_all_of_it_tried_again() -> None:
    def hang(events: Sequence[Event]) -> Awaitable[None] | None:
        return asyncio.sleep(600) if events[0].id == "0" else None

    async with Bench(hang, timeout=0.1) as bench:
        bench.runners.put([delivery(n) for n in range(6)])
        found = await bench.until(6)
    assert [found[str(n)].kind for n in range(6)] == [Kind.RETRY] * 3 + [Kind.DONE] * 3
    assert found["0"].detail == b"timed out after 0.1 s"


async def test_stopping_gives_back_a_batch_that_was_still_filling() -> None:
    async with Bench(lambda _: None) as bench:
        bench.runners.put([delivery(0), delivery(1)])
        await asyncio.sleep(0.05)
        assert [each.event.id for each in bench.runners.stop()] == ["0", "1"]
        await bench.runners.drain(5)
    assert bench.batches == []


async def test_a_pause_that_begins_while_a_batch_fills_holds_it_back() -> None:
    loop = asyncio.get_running_loop()
    async with Bench(lambda _: None, most=2) as bench:
        bench.runners.put([delivery(0)])
        await asyncio.sleep(0.05)
        bench.handler.paused_until = loop.time() + 3600
        bench.runners.put([delivery(1)])
        await asyncio.sleep(0.1)
        assert bench.batches == []
        assert [each.event.id for each in bench.runners.stop()] == ["0", "1"]


async def test_nothing_is_begun_while_the_handler_asks_for_a_pause() -> None:
    loop = asyncio.get_running_loop()
    async with Bench(lambda _: None, most=1) as bench:
        bench.handler.paused_until = loop.time() + 3600
        bench.runners.put([delivery(0)])
        await asyncio.sleep(0.3)
        assert bench.batches == []
        bench.handler.paused_until = 0
        await bench.until(1)
