"""Shipping, one of a payment's two subscribers (the other is inventory.go), and the collector of both's outcomes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from headgate import PermanentError, count, put, result

if TYPE_CHECKING:
    from headgate import Event


class CarrierError(Exception):
    """The carrier took no parcel; it may the next time."""


async def ship(event: Event) -> Any:
    """Sends a parcel by a carrier, which the payment plays: it takes `seconds`, and refuses the first `fails` times."""
    payment, carrier = event.data, event.data.get("carrier", {})
    if not payment["address"]["postcode"]:
        raise PermanentError("data.address.postcode: is empty; publish a payment.corrected with one")
    await asyncio.sleep(carrier.get("seconds", 0))
    if event.attempt <= carrier.get("fails", 0):
        raise CarrierError("nobody answers at the carrier's")
    parcel = {"to": payment["address"], "items": payment["items"], "attempt": event.attempt}
    return result(parcel, put(f"parcel/{payment['payment']}", parcel), count("parcels"))


async def collect(event: Event) -> Any:
    """Counts what became of payments: each record of the join is an event here.

    A subscriber that is away for more than a day makes a second record of what waited for it, counted as well; who must
    not count so puts the outcome under `record["id"]` instead.
    """
    record = event.data
    if record["complete"]:
        return count("fulfilled")
    return [count(f"not by {branch}") for branch in sorted({*record["failed"], *record["missing"]})]
