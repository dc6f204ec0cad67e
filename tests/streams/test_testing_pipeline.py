"""Pipelines in users' tests: real workers and scripts, and a clock that skips what only waits."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from headgate import (
    Event,
    NewEvent,
    PermanentError,
    RetryLaterError,
    count,
    emit,
    put,
    result,
    split,
    value,
)
from headgate.handlers import HandlerLoadError
from headgate.testing import ManifestError, NotSettledError, WorkerBrokenError, pipeline, settling

if TYPE_CHECKING:
    from pathlib import Path


def branch(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "handler": {"python": {"image": "i", "function": "shop:nothing"}}, **more}


def manifest(*branches: dict[str, Any], name: str = "orders", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": name},
        "spec": {"branches": list(branches), **spec},
    }


def failing(*errors: BaseException | None, then: Any = "ok") -> Any:
    """A handler that fails with each of these in turn, and then gives `then`."""
    left = list(errors)

    async def handler(_: Event) -> Any:
        if left and (error := left.pop(0)) is not None:
            raise error
        return then

    return handler


async def echo(event: Event) -> Any:
    return event.data


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
    async def look(_: Event) -> None:
        time.sleep(3.5)  # noqa: ASYNC251 - as a debugger does; outside of tests a lease would be over

    async with pipeline(manifest(branch("charge", ordering="Key")), handlers={"charge": look}) as orders:
        await orders.publish(1, key="k")
        await orders.settled()
        assert [(each.event.attempt, each.error) for each in orders.attempts("charge")] == [(1, None)]


async def test_one_look_that_finds_nothing_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(event: Event) -> Any:
        await asyncio.sleep(0.2)
        return event.data

    real, stale = settling.measure, list[Any]()

    async def measure_late(*args: Any) -> Any:
        return stale.pop() if stale else await real(*args)

    monkeypatch.setattr(settling, "measure", measure_late)
    spec = manifest(branch("charge"), join={"branches": ["charge"]})
    async with pipeline(spec, handlers={"charge": slow}) as orders:
        stale.append([await orders.measure()])
        await orders.publish(5)
        await orders.settled()
        assert len(await orders.records()) == 1


async def test_the_manifests_own_functions_are_imported_from_its_folder_and_some_replaced(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop_in_folder.py").write_text(
        "import shop_prices_beside\n"
        "async def price(event): return shop_prices_beside.of(event.data)\n"
        "async def charge(event): raise AssertionError('the real one')\n"
    )
    (tmp_path / "shop_prices_beside.py").write_text("def of(item): return {'tea': 3}[item]\n")
    spec = manifest(
        branch("price", handler={"python": {"image": "i", "function": "shop_in_folder:price"}}),
        branch("charge", handler={"python": {"image": "i", "function": "shop_in_folder:charge"}}),
        join={"branches": ["price", "charge"]},
    )
    fake = AsyncMock(return_value="charged")
    async with pipeline(spec, handlers={"charge": fake}, folder=tmp_path) as orders:
        await orders.publish("tea")
        await orders.settled()
        (record,) = await orders.records()
    assert record.results == {"price": 3, "charge": "charged"}
    fake.assert_awaited_once()


async def test_a_module_of_another_folder_is_not_taken_for_the_manifests(tmp_path: Path) -> None:
    spec = manifest(branch("a", handler={"python": {"image": "i", "function": "shop_twice:handle"}}))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop_twice.py").write_text("async def handle(event): pass\n")
    async with pipeline(spec, folder=tmp_path / "one"):
        pass
    with pytest.raises(HandlerLoadError, match=r"'shop_twice' was imported from .*one.* before"):
        async with pipeline(spec, folder=tmp_path / "two"):
            pass


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


async def test_every_mistake_of_a_manifest_is_told_with_its_field() -> None:
    spec = manifest(branch("charge", concurrency=0, filter="event.nothing"), join={"branches": ["chrge"]})
    with pytest.raises(ManifestError) as found:
        async with pipeline(spec, handlers={}):
            pass
    said = str(found.value)
    assert "spec.branches[0].concurrency" in said
    assert "spec.branches[0].filter" in said


async def test_text_is_a_manifest_and_what_is_none_is_told() -> None:
    with pytest.raises(ManifestError, match="has no FanoutPipeline"):
        async with pipeline("kind: Secret\n"):
            pass
    with pytest.raises(ManifestError, match="is not YAML"):
        async with pipeline("a: [\n"):
            pass
    with pytest.raises(FileNotFoundError):
        async with pipeline("no-such.yaml"):
            pass


async def test_a_replacement_of_no_branch_is_refused_with_the_branches_there_are() -> None:
    with pytest.raises(ValueError, match="'chrge' is no branch; give one of orders/charge"):
        async with pipeline(manifest(branch("charge")), handlers={"chrge": echo}):
            pass


async def test_a_branch_that_pushes_needs_a_function_or_the_url_of_a_service() -> None:
    spec = manifest(branch("notify", handler={"http": {"url": "https://hooks.example/"}}))
    with pytest.raises(ManifestError, match=r"spec.branches\[0\].handler.http: nothing is pushed to"):
        async with pipeline(spec):
            pass
    async with pipeline(spec, handlers={"notify": echo}) as orders:
        await orders.publish(1)
        await orders.settled()
        assert [each.event.data for each in orders.attempts("notify")] == [1]


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
