"""The saga of an order: three branches do their part, an aggregator decides, what it decided is carried out or undone.

Nothing here is written by a handler itself: what it returns is written with the settling of its event, once, however
often it ran.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from headgate import NewEvent, count, emit, put, result, value

if TYPE_CHECKING:
    from headgate import Event

ALL_IN = {"inventory": "reserved", "payment": "authorized", "notification": "sent"}


async def inventory(event: Event) -> Any:
    """Reserves what an order wants; sells it when the order is Completed, gives it back when it Failed.

    The branch is ordered by key and the key is the product: nobody changes its stock between `value` and `put`.
    """
    await _service("inventory", event)
    stock = await value(event.key) or {"left": 0, "held": {}}
    quantity, held, order = event.data["quantity"], stock["held"], event.data.get("order")
    if event.type == "order.placed":
        return _reserve(event, stock)
    if event.type == "order.completed":
        held.pop(order, None)
    elif event.type == "stock.received":
        stock["left"] += quantity
    elif order in held:
        stock["left"] += held.pop(order)
    elif not event.data["inventory_answered"]:
        held[order] = 0  # should its reservation come yet, it finds that it is too late
    return put(event.key, stock)


def _reserve(event: Event, stock: dict[str, Any]) -> Any:
    held, quantity = stock["held"], event.data["quantity"]
    if held.get(event.id) == 0:
        status = "too late"
        del held[event.id]
    elif event.id in held:
        status = "reserved"  # a duplicate
    elif quantity > stock["left"]:
        status = "out of stock"
    else:
        stock["left"] -= quantity
        held[event.id], status = quantity, "reserved"
    return _answer(event, status, put(event.key, stock))


async def payment(event: Event) -> Any:
    """Has the money authorized. "Declined" is an answer; that the provider cannot be reached is a failure."""
    await _service("payment", event)
    return _answer(event, "declined" if event.data["card"] == "declined" else "authorized")


async def notification(event: Event) -> Any:
    """Tells the customer that the order has come."""
    await _service("notification", event)
    return _answer(event, "sent")


async def capture(event: Event) -> Any:
    """Takes the money of a Completed order; what was authorized for any other lapses by itself."""
    return count("takings", event.data["cents"])


async def aggregate(event: Event) -> Any:
    """Decides, once: Completed when all three are in, else Failed. Has that carried out or undone."""
    record = event.data
    order, answers = record["id"], record["results"]
    if await value(order) is not None:
        return None  # it has its status; what comes now is too late to change it
    silent = dict.fromkeys(ALL_IN, "no answer") | record["failed"]
    said = silent | {branch: answer["status"] for branch, answer in answers.items()}
    status = "Completed" if said == ALL_IN else "Failed"
    effects = [put(order, {"status": status, **said}), count(status)]
    for answer in list(answers.values())[:1]:  # each has the order in it
        data = {**answer["order"], "order": order, "inventory_answered": "inventory" in answers}
        new = NewEvent(id=f"{status}/{order}", type=f"order.{status.lower()}", key=record["key"], data=data)
        effects.append(emit(new, to="orders"))
    return effects


def _answer(event: Event, status: str, *effects: Any) -> Any:
    order = {"quantity": event.data["quantity"], "cents": event.data["cents"]}
    answer = {"status": status, "at": time.time(), "attempt": event.attempt, "order": order}
    return result(answer, *effects)


async def _service(name: str, event: Event) -> None:
    """Stands for the call of a service: as slow, and unreachable for as many attempts, as the event's data say."""
    await asyncio.sleep(event.data.get("seconds", {}).get(name, 0))
    if event.attempt <= event.data.get("fails", {}).get(name, 0):
        raise ConnectionError(f"{name}: the service does not answer")
