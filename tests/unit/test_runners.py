"""The slots, without a server: what becomes of each event, whatever its handler does."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from headgate import PermanentError
from headgate.contract import BatchSettings, BranchContract
from headgate.event import Event
from headgate.handlers.python import LoopHandler, ThreadHandler
from headgate.streams.outcome import Delivery, Kind, Outcome
from headgate.worker.composer import Composer
from headgate.worker.runners import Runners

if TYPE_CHECKING:
    from collections.abc import Callable


class Unspeakable(Exception):  # noqa: N818 - its name is in the outcome
    def __str__(self) -> str:
        raise ValueError("no words")


def delivery(number: int = 0, *, invalid: str | None = None) -> Delivery:
    return Delivery(Event(id=str(number), body=b"1"), 2, b"%d-0" % number, "w.x", 0.0, invalid=invalid)


class Slots:
    """Runners over a function, and what came out of them."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        concurrency: int = 1,
        timeout: float = 60,
        batch: BatchSettings | None = None,
    ) -> None:
        plain = not asyncio.iscoroutinefunction(function)
        self.handler = ThreadHandler(function, concurrency) if plain else LoopHandler(function)
        self.outcomes: list[Outcome] = []
        contract = BranchContract(
            namespace="n",
            pipeline="p",
            branch="b",
            function="m:f",
            concurrency=concurrency,
            timeout_seconds=timeout,
            batch=batch,
        )
        self.runners = Runners(self.handler, contract, Composer(contract), self.outcomes.append)

    async def __aenter__(self) -> Self:
        self.runners.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runners.stop()
        await self.runners.drain(0)
        self.handler.close()

    async def until(self, count: int) -> list[Outcome]:
        """Waits for outcomes."""
        deadline = time.monotonic() + 20
        while len(self.outcomes) < count:
            assert time.monotonic() < deadline, self.outcomes
            await asyncio.sleep(0.005)
        return self.outcomes


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize("form", ["async", "plain"])
@pytest.mark.parametrize(
    ("result", "kind", "detail"),
    [
        (None, Kind.DONE, b"null"),
        ({"a": [1]}, Kind.DONE, b'{"a":[1]}'),
        (0, Kind.DONE, b"0"),
        (object(), Kind.DEAD, b"nothing JSON can carry"),
        (circle(), Kind.DEAD, b"nothing JSON can carry"),
        ("\udcff", Kind.DEAD, b"nothing JSON can carry"),
        (ValueError("bad"), Kind.RETRY, b"ValueError: bad"),
        (ValueError(), Kind.RETRY, b"ValueError"),
        (ValueError("\udcff"), Kind.RETRY, b"ValueError: \\udcff"),
        (Unspeakable(), Kind.RETRY, b"Unspeakable"),
        (SystemExit(3), Kind.RETRY, b"SystemExit: 3"),
        (StopIteration(), Kind.RETRY, b"RuntimeError"),
        (asyncio.CancelledError(), Kind.RETRY, b"CancelledError"),
        (PermanentError("never"), Kind.DEAD, b"never"),
        (PermanentError(), Kind.DEAD, b"PermanentError"),
    ],
    ids=lambda value: re.sub(
        r" at 0x\w+", "", repr(value)
    ),  # workers that run tests side by side compare ids
)
async def test_whatever_a_handler_gives_or_raises_is_its_events_outcome(
    form: str, result: Any, kind: Kind, detail: bytes
) -> None:
    def plain(event: Event) -> Any:
        if event.id == "1":
            return None
        if isinstance(result, BaseException):
            raise result
        return result

    async def on_loop(event: Event) -> Any:
        return plain(event)

    async with Slots(plain if form == "plain" else on_loop) as slots:
        slots.runners.put([delivery(0), delivery(1)])
        first, second = await slots.until(2)
    assert first.kind is kind
    assert detail in first.detail
    assert second.kind is Kind.DONE


async def test_data_that_is_no_json_is_dead_at_once() -> None:
    async with Slots(lambda event: event.data) as slots:
        slots.runners.put([Delivery(Event(id="i", body=b"{"), 2, b"1-0", "w.x", 0.0)])
        (outcome,) = await slots.until(1)
    assert outcome.kind is Kind.DEAD
    assert b"not JSON" in outcome.detail


async def test_what_is_no_event_never_reaches_the_handler() -> None:
    async with Slots(lambda _: pytest.fail("called")) as slots:
        slots.runners.put([delivery(invalid="not an event: \udcff")])
        (outcome,) = await slots.until(1)
    assert (outcome.kind, outcome.detail) == (Kind.DEAD, b"not an event: \\udcff")


async def test_events_begin_in_order_and_no_more_at_once_than_there_are_slots() -> None:
    running = most = 0
    order: list[str] = []

    async def handler(event: Event) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(event.id)
        await asyncio.sleep(0)
        running -= 1

    async with Slots(handler, concurrency=3) as slots:
        slots.runners.put([delivery(number) for number in range(200)])
        await slots.until(200)
    assert most == 3
    assert order == [str(number) for number in range(200)]


async def test_handlers_that_never_wait_leave_the_loop_its_turns() -> None:
    async def handler(_: Event) -> None:
        return None

    async with Slots(handler) as slots:
        slots.runners.put([delivery(number) for number in range(1000)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < len(slots.outcomes) < 1000
        await slots.until(1000)


async def test_a_time_out_cancels_and_the_slot_goes_on() -> None:
    async def handler(event: Event) -> None:
        if event.id == "0":
            await asyncio.Event().wait()

    async with Slots(handler, timeout=0.1) as slots:
        slots.runners.put([delivery(0), delivery(1)])
        first, second = await slots.until(2)
    assert (first.kind, first.detail) == (Kind.RETRY, b"timed out after 0.1 s")
    assert second.kind is Kind.DONE


async def test_a_handler_that_does_not_heed_its_time_out_leaves_no_trace_in_the_next() -> None:
    async def handler(event: Event) -> int:
        if event.id == "0":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return 1
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    async with Slots(handler, timeout=0.1) as slots:
        slots.runners.put([delivery(0), delivery(1)])
        first, second = await slots.until(2)
        assert (first.kind, first.detail) == (Kind.DONE, b"1")
        assert (second.kind, second.detail) == (Kind.DONE, b"0")
        slots.runners.put([delivery(2)])
        await slots.until(3)


async def test_a_drain_lets_what_runs_finish_and_gives_back_the_rest() -> None:
    release = asyncio.Event()

    async def handler(_: Event) -> None:
        await release.wait()

    async with Slots(handler, concurrency=2) as slots:
        slots.runners.put([delivery(number) for number in range(5)])
        while slots.runners.busy < 2:  # noqa: ASYNC110 - nothing to wait for but this
            await asyncio.sleep(0)
        unbegun = slots.runners.stop()
        release.set()
        await slots.runners.drain(20)
    assert [each.event.id for each in unbegun] == ["2", "3", "4"]
    assert [outcome.kind for outcome in slots.outcomes] == [Kind.DONE, Kind.DONE]


async def test_a_drain_gives_up_what_outlasts_it() -> None:
    async def handler(_: Event) -> None:
        await asyncio.Event().wait()

    async with Slots(handler) as slots:
        slots.runners.put([delivery()])
        while not slots.runners.busy:  # noqa: ASYNC110 - nothing to wait for but this
            await asyncio.sleep(0)
        assert slots.runners.stop() == []
        await slots.runners.drain(0.05)
    assert slots.outcomes == []
