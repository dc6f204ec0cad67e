"""A handler in a test of its own: the event it is called with, and what it returned."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
from typing import Any
from unittest.mock import AsyncMock

import pytest

from headgate import Event, Lane, NewEvent, PermanentError, count, emit, put, result, split, value
from headgate.testing import handle, handle_batch


async def transcode(event: Event) -> str:
    return event.data["video"].replace(".mp4", ".webm")


async def told(event: Event) -> list[Any]:
    return [
        *(event.id, event.type, event.source, event.key, event.lane, event.partition, event.published_ms),
        *(event.attempt, event.traceparent, event.root, event.fencing_token, event.data),
    ]


async def test_an_async_handler_gives_its_value() -> None:
    done = await handle(transcode, {"video": "a.mp4"}, type="video.uploaded")
    assert done.value == "a.webm"


async def test_a_plain_handler_runs_in_a_thread_as_in_a_worker() -> None:
    done = await handle(lambda _: threading.current_thread() is threading.main_thread())
    assert done.value is False


async def test_a_mock_that_is_async_is_awaited() -> None:
    fake = AsyncMock(return_value=7)
    assert (await handle(fake, {"n": 1})).value == 7
    assert fake.await_args.args[0].data == {"n": 1}


async def test_whatever_an_event_has_may_be_given() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    done = await handle(
        told,
        [1],
        id="e1",
        type="order",
        source="/shop",
        key="k",
        lane=Lane.HIGH,
        partition=3,
        published_ms=5,
        attempt=2,
        traceparent=traceparent,
        root="r",
        fencing_token=9,
    )
    assert done.value == ["e1", "order", "/shop", "k", "high", 3, 5, 2, traceparent, "r", 9, [1]]


async def test_an_event_or_one_to_publish_is_given_whole_and_fields_change_it() -> None:
    event = Event(id="e1", body=b"[1]", key="k", published_ms=5)
    expected = ["e1", "event", "", "k", "normal", 0, 5, 3, None, None, 0, [1]]
    assert (await handle(told, event, attempt=3)).value == expected
    assert event.attempt == 1

    new = NewEvent(data=2, id="e2", type="t", source="/s", key="k", lane=Lane.LOW)
    found = (await handle(told, new, published_ms=6)).value
    assert found == ["e2", "t", "/s", "k", "low", 0, 6, 1, None, None, 0, 2]


async def test_data_is_what_json_makes_of_it() -> None:
    async def kind(event: Event) -> str:
        return f"{type(event.data).__name__} {event.data}"

    assert (await handle(kind, dt.date(2026, 11, 21))).value == "str 2026-11-21"
    with pytest.raises(TypeError, match="object"):
        await handle(kind, object())


async def test_effects_are_told_by_kind() -> None:
    first, second = NewEvent(data=1, type="done"), NewEvent(data=2)
    parts = [NewEvent(data=part) for part in "ab"]

    async def handler(event: Event) -> Any:
        return result(
            (event.id, 7),
            count("texts"),
            count("texts", 2),
            count("words", -1),
            put("last", dt.date(2026, 11, 21)),
            put("gone", None),
            emit(first),
            emit(second, to="billing"),
            split(parts),
            split([NewEvent(data="c")]),
        )

    done = await handle(handler, id="e1")
    assert done.value == ["e1", 7]
    assert done.counts == {"texts": 3, "words": -1}
    assert done.puts == {"last": "2026-11-21", "gone": None}
    assert [(each.event, each.to) for each in done.emitted] == [(first, None), (second, "billing")]
    assert done.parts == (*parts, NewEvent(data="c"))
    assert done.error is None


async def test_a_lone_effect_and_a_list_of_them_have_no_value() -> None:
    async def one(_: Event) -> Any:
        return count("n")

    async def two(_: Event) -> Any:
        return [count("n"), count("n")]

    assert [(done.value, done.counts) for done in (await handle(one), await handle(two))] == [
        (None, {"n": 1}),
        (None, {"n": 2}),
    ]


async def test_it_raises_what_the_handler_raises() -> None:
    async def refuse(event: Event) -> None:
        raise PermanentError(f"no {event.data}")

    with pytest.raises(PermanentError, match="no price"):
        await handle(refuse, "price")


async def test_what_would_make_a_dead_letter_of_the_event_is_an_error() -> None:
    async def unjson(_: Event) -> object:
        return object()

    async def nowhere(_: Event) -> Any:
        return emit(NewEvent(data=1), to="a/b/c")

    with pytest.raises(ValueError, match="result is nothing JSON can carry"):
        await handle(unjson)
    with pytest.raises(ValueError, match="'a/b/c' is no pipeline's name"):
        await handle(nowhere)


async def test_values_of_the_pipeline_are_those_that_the_test_gives() -> None:
    async def status(event: Event) -> Any:
        return await value(f"order:{event.key}")

    given = {"order:o1": {"paid": True}}
    assert (await handle(status, key="o1", values=given)).value == {"paid": True}
    assert (await handle(status, key="o2", values=given)).value is None
    assert (await handle(status, key="o1")).value is None


async def test_a_batch_handler_gets_a_list_and_each_event_has_its_own_outcome() -> None:
    async def store(events: list[Event]) -> list[Any]:
        return [PermanentError("odd") if event.data % 2 else result(event.id, count("n")) for event in events]

    odd, even = await handle_batch(store, [1, NewEvent(data=2, id="two")], type="number")
    assert (str(odd.error), odd.value, odd.counts) == ("odd", None, {})
    assert (even.error, even.value, even.counts) == (None, "two", {"n": 1})


async def test_a_batch_whose_handler_returned_nothing_is_done() -> None:
    seen: list[tuple[str, str]] = []

    def store(events: list[Event]) -> None:
        seen.extend((event.id, event.type) for event in events)

    assert [done.value for done in await handle_batch(store, ["a", "b"], type="t")] == [None, None]
    assert seen == [("test-1", "t"), ("test-2", "t")]


async def test_a_batch_handler_that_returns_too_few_results_is_told_so() -> None:
    async def first(events: list[Event]) -> list[Any]:
        return [events[0].data]

    with pytest.raises(
        TypeError, match="one result or exception an event: 2 events, but it returned 1 of them"
    ):
        await handle_batch(first, [1, 2])


@pytest.mark.parametrize("missing", ["yaml", "pydantic"])
def test_handlers_are_tested_without_the_extra_and_a_pipeline_says_what_it_lacks(missing: str) -> None:
    code = f"""
import asyncio, sys
sys.modules[{missing!r}] = None  # as if it were not installed
from headgate.testing import handle
assert asyncio.run(handle(lambda event: event.data, 5)).value == 5
try:
    from headgate.testing import pipeline
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == (
        f"headgate.testing.pipeline needs {missing}, which is not installed: pip install 'headgate[local]'"
    ), done.stderr
