"""The order example, tested as its user would: what comes in any order, twice, or too late changes nothing."""

from __future__ import annotations

import importlib
import sys
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headgate import Event, NewEvent, RetryLaterError
from headgate.testing import handle, pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from headgate.testing import RunningPipeline

EXAMPLE = Path(__file__).parents[2] / "examples" / "order-processing"
MANIFEST = EXAMPLE / "pipeline.yaml"
BRANCHES = ("inventory", "payment", "notification")
DELIVERY = NewEvent(id="delivery", type="stock.received", key="mug", data={"quantity": 10})
COMPLETED = {"status": "Completed", "inventory": "reserved", "payment": "authorized", "notification": "sent"}


def order(name: str = "order-1", **data: Any) -> NewEvent:
    data = {"quantity": 3, "cents": 500, "card": "good"} | data
    return NewEvent(id=name, type="order.placed", key="mug", data=data)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLE)
    yield importlib.import_module("orders")
    del sys.modules["orders"]


def after(seconds: float, handler: Callable[[Event], Any]) -> Callable[[Event], Any]:
    """The handler, whose first answer to an order takes so long."""

    async def late(event: Event) -> Any:
        if event.attempt == 1 and event.type == "order.placed":
            raise RetryLaterError("still at it", seconds)
        return await handler(event)

    return late


async def outcome(shop: RunningPipeline) -> tuple[Any, Any, dict[str, int]]:
    """Every order's status, the stock of mugs, and what was taken and decided."""
    status = shop.other("order-status")
    counts = await shop.counts() | await status.counts()
    return await status.values(), (await shop.values())["mug"], counts


@pytest.mark.parametrize("order_of_answers", [*permutations(BRANCHES)], ids="-".join)
async def test_in_whatever_order_the_three_answer_the_order_is_completed_with_the_last_once(
    orders: ModuleType, order_of_answers: tuple[str, ...]
) -> None:
    handlers = {
        branch: after(10 * place, getattr(orders, branch)) for place, branch in enumerate(order_of_answers, 1)
    }
    async with pipeline(MANIFEST, handlers=handlers) as shop:
        await shop.publish(DELIVERY, order(), order())
        await shop.advance(29)
        assert await shop.other("order-status").values() == {}
        await shop.settled()
        await shop.publish(order())
        await shop.settled()
        sold = {"left": 7, "held": {}}
        assert await outcome(shop) == ({"order-1": COMPLETED}, sold, {"takings": 500, "Completed": 1})


async def test_a_declined_card_gives_back_what_was_reserved_and_takes_no_money() -> None:
    async with pipeline(MANIFEST) as shop:
        await shop.publish(DELIVERY, order(card="declined"))
        await shop.settled()
        failed = COMPLETED | {"status": "Failed", "payment": "declined"}
        assert await outcome(shop) == ({"order-1": failed}, {"left": 10, "held": {}}, {"Failed": 1})


async def test_a_bank_that_answers_after_the_time_out_finds_the_order_failed_and_nothing_to_refund(
    orders: ModuleType,
) -> None:
    async with pipeline(MANIFEST, handlers={"payment": after(700, orders.payment)}) as shop:
        await shop.publish(DELIVERY, order())
        await shop.advance(601)
        failed = {"order-1": COMPLETED | {"status": "Failed", "payment": "no answer"}}
        undone = (failed, {"left": 10, "held": {}}, {"Failed": 1})
        assert await outcome(shop) == undone
        await shop.settled()
        assert shop.seconds >= 700
        assert (await shop.measure()).late == 1
        assert await outcome(shop) == undone


async def test_a_reservation_that_comes_after_its_order_failed_reserves_nothing_and_leaves_no_mark(
    orders: ModuleType,
) -> None:
    event, stock = order(), {"left": 10, "held": {}}
    decided = {"order": event.id, "quantity": 3, "cents": 500, "inventory_answered": False}
    marked = await handle(orders.inventory, decided, key="mug", type="order.failed", values={"mug": stock})
    assert marked.puts == {"mug": {"left": 10, "held": {"order-1": 0}}}
    late = await handle(orders.inventory, event, values=marked.puts)
    assert (late.value["status"], late.puts) == ("too late", {"mug": stock})


async def test_a_dead_letter_of_inventory_that_is_redriven_after_the_decision_changes_nothing(
    orders: ModuleType,
) -> None:
    away = True

    async def inventory(event: Event) -> Any:
        if away and event.type == "order.placed":
            raise ConnectionError("no such host")
        return await orders.inventory(event)

    async with pipeline(MANIFEST, handlers={"inventory": inventory}) as shop:
        await shop.publish(DELIVERY, order())
        await shop.settled()
        undone = await outcome(shop)
        failed = {"status": "Failed", "inventory": "ConnectionError: no such host"}
        assert undone == (
            {"order-1": COMPLETED | failed},
            {"left": 10, "held": {"order-1": 0}},
            {"Failed": 1},
        )
        away = False
        assert await shop.redrive("inventory") == 1
        await shop.settled()
        assert await outcome(shop) == (undone[0], {"left": 10, "held": {}}, undone[2])
        (attempt,) = [
            each for each in shop.attempts("inventory") if each.event.id == "order-1" and not each.error
        ]
        assert attempt.event.attempt == 1


async def test_what_is_not_there_is_not_reserved_and_an_order_that_holds_it_holds_it_once(
    orders: ModuleType,
) -> None:
    held = {"left": 2, "held": {"order-1": 3}}
    refused = await handle(orders.inventory, order("order-2"), values={"mug": held})
    again = await handle(orders.inventory, order("order-1"), values={"mug": held})
    assert (refused.value["status"], refused.puts) == ("out of stock", {"mug": held})
    assert (again.value["status"], again.puts) == ("reserved", {"mug": held})


async def test_a_second_record_that_says_the_contrary_changes_no_status(orders: ModuleType) -> None:
    record = {"id": "order-1", "complete": False, "results": {}, "failed": {"payment": "no"}}
    done = await handle(orders.aggregate, record, values={"order-1": COMPLETED})
    assert (done.puts, done.counts, done.emitted) == ({}, {}, ())
    first = await handle(orders.aggregate, record, values={})
    assert first.puts["order-1"]["status"] == "Failed"
