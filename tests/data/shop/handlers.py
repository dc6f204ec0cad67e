"""Handlers of three pipelines that feed each other, for tests of what runs them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import NewEvent, PermanentError, RetryLaterError, count, emit, result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate import Event
    from headgate.effects import Effect, Result


async def check(event: Event) -> int:
    """Answers with the order's number."""
    return int(event.data["n"])


async def charge(event: Event) -> Result:
    """Answers with the price, and tells the ledger of it."""
    n = int(event.data["n"])
    return result(3 * n, emit(NewEvent(data={"price": 3 * n, "poison": event.data["poison"]}), to="ledger"))


async def send(event: Event) -> int:
    """Sends an order's record, at the second attempt."""
    if event.attempt == 1:
        raise RetryLaterError("the mail server is busy", 0.3)
    return int(event.data["results"]["charge"])


async def book(event: Event) -> Effect:
    """Adds a price to the sum of all."""
    if event.data["poison"]:
        raise PermanentError("data.poison: set: publish an event without it")
    return count("sum", event.data["price"])


def orders(number: int) -> Iterator[dict[str, Any]]:
    """Numbered orders."""
    for n in range(number):
        yield {"data": {"n": n, "poison": False}}


def poisoned(number: int) -> Iterator[dict[str, Any]]:
    """Numbered orders, of which the first cannot be booked."""
    for n in range(number):
        yield {"data": {"n": n, "poison": n == 0}}
