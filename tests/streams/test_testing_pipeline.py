"""Pipelines in users' tests: what becomes of events, and how a test fails that cannot end well."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from headgate import (
    Event,
    NewEvent,
    PermanentError,
    count,
    emit,
    put,
    result,
    split,
    value,
)
from headgate.streams import measure
from headgate.testing import NotSettledError, WorkerBrokenError, pipeline, settling
from streams.rehearsing import branch, echo, failing, manifest

if TYPE_CHECKING:
    from pathlib import Path


async def test_parts_are_gathered_though_some_are_tried_again() -> None:
    async def cut(event: Event) -> Any:
        return split(NewEvent(type="line", data=line) for line in event.data)

    async def tally(event: Event) -> Any:
        if event.data == "b c" and event.attempt < 3:
            raise RuntimeError("no")
        return result(len(event.data.split()), *(count(word) for word in event.data.split()))

    spec = manifest(
        branch("cut", filter='event.type == "text"'),
        branch("tally", filter='event.type == "line"', retry={"initialSeconds": 100, "factor": 2}),
        join={"branches": ["cut", "tally"], "timeoutSeconds": 3000},
        source={"partitions": 3},
    )
    async with pipeline(spec, handlers={"cut": cut, "tally": tally}) as words:
        await words.publish(["a", "b c", "c"], type="text", id="t1")
        await words.settled()
        (record,) = await words.records()
        assert record.complete
        assert list(record.parts["tally"].values()) == [1, 2, 1]
        assert await words.counts() == {"a": 1, "b": 1, "c": 2}
        assert words.seconds == 300


async def test_a_blocked_key_waits_in_order_and_no_other_key_does() -> None:
    done: list[tuple[str, int]] = []

    async def book(event: Event) -> Any:
        if event.data == 1 and event.attempt < 3:
            raise RuntimeError("no")
        done.append((event.key or "", event.data))
        last = await value(f"last:{event.key}")
        return [put(f"last:{event.key}", [*(last or []), event.data])]

    spec = manifest(
        branch("book", ordering="Key", retry={"initialSeconds": 60, "factor": 3, "maxSeconds": 500})
    )
    async with pipeline(spec, handlers={"book": book}) as bank:
        await bank.publish(
            [NewEvent(data=number, key="ab"[number % 2], id=f"b{number}") for number in range(6)]
        )
        await bank.advance(0)
        assert done == [("a", 0), ("a", 2), ("a", 4)]
        await bank.settled()
        assert done[3:] == [("b", 1), ("b", 3), ("b", 5)]
        assert await bank.values() == {"last:a": [0, 2, 4], "last:b": [1, 3, 5]}
        assert bank.seconds == 60 + 180


async def test_dead_letters_do_not_fail_it_and_are_given_again() -> None:
    spec = manifest(branch("charge", retry={"maxAttempts": 2, "initialSeconds": 5}))
    handler = AsyncMock(side_effect=[RuntimeError("no"), PermanentError("no card"), RuntimeError("no"), "ok"])
    async with pipeline(spec, handlers={"charge": handler}) as orders:
        await orders.publish({"total": 5}, id="o1")
        await orders.settled()
        (letter,) = await orders.dead_letters("charge")
        assert (letter.id, letter.error, letter.attempts, letter.data) == ("o1", "no card", 2, {"total": 5})
        assert await orders.redrive("charge", error="card") == 1
        await orders.settled()
        assert await orders.dead_letters("charge") == []
        assert [each.event.attempt for each in orders.attempts("charge")] == [1, 2, 1, 2]
        assert orders.seconds == 10


async def test_what_one_pipeline_emits_to_another_is_settled_too(tmp_path: Path) -> None:
    (tmp_path / "shop_of_two.py").write_text(
        "from headgate import NewEvent, emit\n"
        "async def order(event):\n"
        "    return emit(NewEvent(data=event.data * 2, id=f'bill-{event.id}'), to='billing')\n"
        "def bill(event):\n"
        "    if event.attempt == 1:\n"
        "        raise RuntimeError('no')\n"
        "    return event.data\n"
    )
    (tmp_path / "pipeline.yaml").write_text(
        """
apiVersion: headgate.dev/v1alpha1
kind: FanoutPipeline
metadata: {name: orders}
spec:
  branches:
  - name: order
    handler: {python: {image: i, function: "shop_of_two:order"}}
  join: {branches: [order], output: {pipeline: billing}}
---
apiVersion: v1
kind: Service
metadata: {name: passed-over}
---
apiVersion: headgate.dev/v1alpha1
kind: FanoutPipeline
metadata: {name: billing}
spec:
  branches:
  - name: bill
    filter: event.type == "event"
    retry: {initialSeconds: 7}
    handler: {python: {image: i, function: "shop_of_two:bill", executor: Processes}}
  join: {branches: [bill]}
"""
    )
    async with pipeline(tmp_path / "pipeline.yaml") as orders:
        billing = orders.other("billing")
        await orders.publish([NewEvent(data=number, id=f"o{number}") for number in range(50)])
        await orders.settled()
        found = {record.id: record.results for record in await billing.records()}
        assert found == {f"bill-o{number}": {"bill": number * 2} for number in range(50)}
        assert (orders.seconds, billing.seconds) == (7, 7)
        assert await orders.emitted() == []


async def test_what_is_emitted_to_a_pipeline_that_is_not_here_can_be_looked_at() -> None:
    async def order(event: Event) -> Any:
        return emit(NewEvent(data=event.data, type="bill", key="k"), to="billing")

    async with pipeline(manifest(branch("order")), handlers={"order": order}) as orders:
        await orders.publish({"total": 5}, id="o1")
        await orders.settled()
        (emitted,) = await orders.emitted()
        assert emitted.to == "default/billing"
        event = emitted.event
        assert (event.data, event.type, event.key, event.id) == ({"total": 5}, "bill", "k", "o1/order/0")


async def test_one_look_that_finds_nothing_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(event: Event) -> Any:
        await asyncio.sleep(0.2)
        return event.data

    stale = list[Any]()

    async def measure_late(*args: Any) -> Any:
        return stale.pop() if stale else await measure(*args)

    monkeypatch.setattr(settling, "measure", measure_late)
    spec = manifest(branch("charge"), join={"branches": ["charge"]})
    async with pipeline(spec, handlers={"charge": slow}) as orders:
        stale.append([await orders.measure()])
        await orders.publish(5)
        await orders.settled()
        assert len(await orders.records()) == 1


async def test_a_hung_handler_is_told_with_its_event_instead_of_hanging_the_test() -> None:
    async def hang(_: Event) -> None:
        await asyncio.Event().wait()

    began = time.monotonic()
    async with pipeline(
        manifest(branch("charge"), branch("ok")), handlers={"charge": hang, "ok": echo}
    ) as orders:
        await orders.publish(1, id="o1")
        with pytest.raises(NotSettledError) as found:
            await orders.settled(within=0.3)
    said = str(found.value)
    assert "not settled within 0.3 s of real time" in said
    assert "branch charge of orders: 1 events not settled; its handler is at o1 (attempt 1) for 0." in said
    assert "branch ok" not in said
    assert time.monotonic() - began >= 0.3


async def test_a_paused_branch_is_told_to_be_paused() -> None:
    async with pipeline(manifest(branch("charge", paused=True)), handlers={"charge": echo}) as orders:
        await orders.publish(1)
        with pytest.raises(NotSettledError, match="1 events not settled; it is paused by the manifest"):
            await orders.settled(within=0.2)


async def test_a_worker_that_breaks_fails_the_test_at_once() -> None:
    async def use() -> None:
        async with pipeline(manifest(branch("charge")), handlers={"charge": lambda _: count("n")}) as orders:
            await orders._server.execute("", "SET", "hg:{default/orders:0}:counts", "no hash")
            await orders.publish(1)
            await orders.settled(within=30)

    with pytest.raises(WorkerBrokenError, match=r"branch charge of orders broke: .*WRONGTYPE"):
        await use()


async def test_a_worker_that_broke_fails_the_test_though_nothing_was_waited_for() -> None:
    async def use() -> None:
        async with pipeline(manifest(branch("charge")), handlers={"charge": lambda _: count("n")}) as orders:
            await orders._server.execute("", "SET", "hg:{default/orders:0}:counts", "no hash")
            await orders.publish(1)
            await asyncio.wait([orders._workers["charge"].task], timeout=30)

    with pytest.raises(WorkerBrokenError, match="WRONGTYPE"):
        await use()


async def test_tests_see_nothing_of_each_other_and_may_run_side_by_side() -> None:
    async def one(number: int) -> tuple[int, float]:
        spec = manifest(branch("charge", retry={"initialSeconds": number + 1}))
        async with pipeline(
            spec, handlers={"charge": failing(RuntimeError("no"), then=count("n"))}
        ) as orders:
            await orders.publish([NewEvent(data=each, id=f"o{each}") for each in range(number + 1)])
            await orders.settled()
            return (await orders.counts())["n"], orders.seconds

    found = await asyncio.gather(*(one(number) for number in range(5)))
    assert found == [(number + 1, number + 1) for number in range(5)]
