"""Row 4: orders that three branches work on end Completed when all three are in, else Failed with all of it undone.

What is expected is computed here from the orders that were sent, one after another, by nothing that the handlers use.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import yaml

from headgate import NewEvent

if TYPE_CHECKING:
    from types import ModuleType

    from headgate import Connection
    from headgate.join import Record
    from proofs.stage import Stage

BRANCHES = ("inventory", "payment", "notification")
UNANSWERED = 3
SLOW = 0.3  # seconds
NO_ANSWER = "ConnectionError: payment: the service does not answer"
KILLED = "delivered 11 times and never settled"


async def prove(stage: Stage) -> dict[str, int | float | str]:
    """Applies the example, publishes, waits, compares with what was sent; gives the figures of its line.

    Raises AssertionError.
    """
    load = _module(stage)
    seed = stage.dice.randrange(2**32)
    number, rate = (300, 15) if stage.is_chaotic else (200, 40)
    placed = load.orders(number, seed, unanswered=UNANSWERED, slow=SLOW)
    await stage.apply()
    await stage.until("the branches have workers", partial(_have_workers, stage))
    asked = {"orders": number, "rate": rate, "seed": seed, "unanswered": UNANSWERED, "slow": SLOW}
    async with stage.connect("orders") as shop, stage.connect("order-status") as status:
        options = (f"--{name}={given}" for name, given in asked.items())
        loading = asyncio.create_task(stage.publish(*options, new=len(placed) + len(load.STOCK)))
        await _kill_some(stage, shop, number * 9 // 10)
        await loading
        dropped = await _publish_again(shop, load, placed, seed)
        await stage.settled(300)
        before = await _state(shop, status)
        _check(placed, load, before, _most_attempts(stage), is_chaotic=stage.is_chaotic)
        records = [record for record in await shop.records() if record.id.startswith("order-")]
        assert sorted(record.id for record in records) == sorted(order.id for order in placed)
        again = _redelivered(records, placed)
        # A pod that is deleted has a moment left, in which its worker may end or hand back what it has.
        assert again or not stage.is_local, "what killed workers had in their hands was delivered again"
        orders_of_answers = _orders_of_answers(records)
        # Under chaos what a killed worker held is late by more than any service is.
        assert stage.is_chaotic or orders_of_answers == set(permutations(BRANCHES)), (
            f"the three results came in {len(orders_of_answers)} of 6 orders"
        )
        letters = await shop.dead_letters("payment")
        assert {letter.id for letter in letters} == {each.id for each in placed[:UNANSWERED]}
        # All of it once more after the end, and of every order a second record that says the contrary.
        dropped += await _publish_again(shop, load, placed, seed)
        await status.publish(_contrary(record) for record in records)
        await stage.settled(120)
        assert await _state(shop, status) == before, "what comes after the end changes nothing"
    return {
        "orders": len(placed),
        "completed": before["decided"]["Completed"],
        "failed": before["decided"]["Failed"],
        "out of stock": sum(each["inventory"] == "out of stock" for each in before["statuses"].values()),
        "never paid": len(letters),
        "duplicates dropped": dropped,
        "delivered again": again,
        "orders of answers": len(orders_of_answers),
        "taken, cents": before["taken"]["takings"],
    }


async def _have_workers(stage: Stage) -> bool:
    """From then on it is the services that are slow, and not a worker's start."""
    return {f"orders/{branch}" for branch in BRANCHES} <= (await stage.workers()).keys()


def _check(
    placed: list[NewEvent], load: ModuleType, state: dict[str, Any], most_attempts: int, *, is_chaotic: bool
) -> None:
    """Every order has the one status it must have, and stock and money are what is left of Completed ones alone."""
    statuses, stocks = state["statuses"], state["stocks"]
    assert statuses.keys() == {order.id for order in placed}, "a status for each order, and for nothing else"
    left = Counter({load.SCARCE: load.STOCK[load.SCARCE]})
    for order in placed:
        said = statuses[order.id]
        paid = _payment_of(order, most_attempts)
        if paid == NO_ANSWER and is_chaotic and said["payment"].startswith(KILLED):
            paid = said[
                "payment"
            ]  # what the dead letter says when it was the last attempt's worker that was killed
        if order.key == load.CONTESTED:  # who gets it depends on what had come back by then
            reserved = said["inventory"]
            assert reserved in {"reserved", "out of stock"}, f"{order.id}: {said}"
        elif order.key == load.SCARCE:
            reserved = "reserved" if left[order.key] else "out of stock"
            left[order.key] -= reserved == "reserved"
        else:
            reserved = "reserved"
        is_complete = (paid, reserved) == ("authorized", "reserved")
        expected = {"inventory": reserved, "payment": paid, "notification": "sent"}
        expected["status"] = "Completed" if is_complete else "Failed"
        assert said == expected, f"{order.id}: {said} instead of {expected}"
    completed = [order for order in placed if statuses[order.id]["status"] == "Completed"]
    sold = Counter[str]()
    for order in completed:
        sold[order.key or ""] += order.data["quantity"]
    expected_stocks = {sku: {"left": n - sold[sku], "held": {}} for sku, n in load.STOCK.items()}
    assert stocks == expected_stocks, "each product's stock is what it was less what Completed orders took"
    assert min(stock["left"] for stock in stocks.values()) >= 0
    assert sold[load.SCARCE] == load.STOCK[load.SCARCE], "all of the scarce product is sold"
    assert state["decided"] == {"Completed": len(completed), "Failed": len(placed) - len(completed)}
    assert state["taken"] == {"takings": sum(order.data["cents"] for order in completed)}
    assert 0 < len(completed) < len(placed)


def _payment_of(order: NewEvent, most_attempts: int) -> str:
    if order.data["fails"].get("payment", 0) >= most_attempts:
        return NO_ANSWER
    return "declined" if order.data["card"] == "declined" else "authorized"


async def _state(shop: Connection, status: Connection) -> dict[str, Any]:
    """All that the example has come to."""
    return {
        "stocks": await shop.values(),
        "taken": await shop.counts(),
        "statuses": await status.values(),
        "decided": await status.counts(),
    }


async def _publish_again(shop: Connection, load: ModuleType, placed: list[NewEvent], seed: int) -> int:
    """Publishes every event once more, the last first; how many."""
    receipts = await shop.publish(reversed([*load.deliveries(seed), *placed]))
    assert all(receipt.duplicate for receipt in receipts)
    return len(receipts)


async def _kill_some(stage: Stage, shop: Connection, published: int) -> None:
    """Kills workers of two of the three branches when so many events are published: each has some in its hands."""

    async def has_come_so_far() -> bool:
        return (await shop.measure()).published >= published

    await stage.until("most of the load is published", has_come_so_far)
    killed: set[str] = set()
    while len(killed & {f"orders/{branch}" for branch in BRANCHES}) < 2:
        killed.add(await stage.kill())
        await asyncio.sleep(0.2)


def _redelivered(records: list[Record], placed: list[NewEvent]) -> int:
    """How many answers came from a later attempt than the service's own failures account for."""
    fails = {order.id: order.data["fails"] for order in placed}
    return sum(
        answer["attempt"] > fails[record.id].get(branch, 0) + 1
        for record in records
        for branch, answer in record.results.items()
    )


def _orders_of_answers(records: list[Record]) -> set[tuple[str, ...]]:
    """In which orders the branches' answers of an order came in."""
    return {
        tuple(sorted(BRANCHES, key=lambda branch: answers[branch]["at"]))
        for answers in (record.results for record in records if record.complete)
    }


def _contrary(record: Record) -> NewEvent:
    """A record of the same order, under another event's id, by which it would end the other way."""
    answers = {branch: {**answer, "status": "declined"} for branch, answer in record.results.items()}
    if not record.complete or any(
        answer["status"] in {"declined", "out of stock"} for answer in record.results.values()
    ):
        good = dict(zip(BRANCHES, ("reserved", "authorized", "sent"), strict=True))
        order = record.results["notification"]["order"]
        answers = {branch: {"status": word, "order": order} for branch, word in good.items()}
    data = {"id": record.id, "complete": True, "results": answers, "failed": {}, "parts": {}, "missing": []}
    return NewEvent(id=f"again/{record.id}", type="headgate.record", data=data)


def _most_attempts(stage: Stage) -> int:
    manifests = list(yaml.safe_load_all((stage.folder / "pipeline.yaml").read_text()))
    (payment,) = [each for each in manifests[0]["spec"]["branches"] if each["name"] == "payment"]
    most: int = payment["retry"]["maxAttempts"]
    return most


def _module(stage: Stage) -> ModuleType:
    """The example's load.py, which makes the events of a seed."""
    spec = importlib.util.spec_from_file_location("order_processing_load", stage.folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
