"""The payment example's handlers and pipelines, tested as their user would; the service in Go is a function here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from headgate import NewEvent, PermanentError
from headgate.testing import handle, pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXAMPLE = Path(__file__).parents[2] / "examples" / "payment-events"
MANIFEST = EXAMPLE / "pipeline.yaml"
ADDRESS = {"street": "1 Gate Lane", "postcode": "0150"}


def paid(payment: str = "p1", **data: Any) -> NewEvent:
    data = {"payment": payment, "address": ADDRESS, "items": {"mug": 2}} | data
    return NewEvent(id=payment, type="payment.succeeded", data=data)


@pytest.fixture
def payments(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLE)
    yield importlib.import_module("payments")
    del sys.modules["payments"]


async def test_a_parcel_goes_to_the_address_with_what_was_paid_for(payments: ModuleType) -> None:
    done = await handle(payments.ship, paid())
    parcel = {"to": ADDRESS, "items": {"mug": 2}, "attempt": 1}
    assert (done.value, done.puts, done.counts) == (parcel, {"parcel/p1": parcel}, {"parcels": 1})


async def test_no_attempt_finds_a_postcode_that_is_missing(payments: ModuleType) -> None:
    with pytest.raises(PermanentError, match="publish a payment"):
        await handle(payments.ship, paid(address={"postcode": ""}))


async def test_a_carrier_that_refuses_twice_delays_its_own_parcel_by_two_seconds_and_inventory_by_none() -> (
    None
):
    async with pipeline(MANIFEST, handlers={"inventory": AsyncMock(return_value=None)}) as shop:
        await shop.publish(paid(carrier={"fails": 2}))
        await shop.advance(0)
        assert {name: each.done for name, each in (await shop.measure()).branches.items()} == {
            "shipping": 0, "inventory": 1,
        }  # fmt: skip
        await shop.settled()
        assert (shop.seconds, await shop.counts()) == (2, {"parcels": 1})


async def test_a_payment_that_is_reported_again_ships_once() -> None:
    async with pipeline(MANIFEST, handlers={"inventory": AsyncMock(return_value=None)}) as shop:
        await shop.publish(paid(), paid())
        await shop.settled()
        await shop.publish(paid())
        await shop.settled()
        assert await shop.counts() == {"parcels": 1}


async def test_what_is_sold_out_is_a_dead_letter_of_inventory_alone_and_is_taken_when_it_is_redriven() -> (
    None
):
    sold_out = RuntimeError("POST http://inventory:8080/payments answered 422: kettle is sold out")
    inventory = AsyncMock(side_effect=[sold_out, None])
    async with pipeline(MANIFEST, handlers={"inventory": inventory}) as shop:
        await shop.publish(paid())
        await shop.settled()
        (letter,) = await shop.dead_letters("inventory")
        assert (letter.attempts, await shop.counts()) == (1, {"parcels": 1})
        assert await shop.other("outcomes").counts() == {"not by inventory": 1}
        assert await shop.redrive("inventory") == 1
        await shop.settled()
        assert (await shop.dead_letters("inventory"), await shop.counts()) == ([], {"parcels": 1})


async def test_a_correction_is_for_shipping_alone() -> None:
    inventory = AsyncMock(return_value=None)
    async with pipeline(MANIFEST, handlers={"inventory": inventory}) as shop:
        await shop.publish(NewEvent(id="p1/corrected", type="payment.corrected", data=paid().data))
        await shop.settled()
        assert inventory.await_count == 0
        assert (await shop.counts(), await shop.other("outcomes").counts()) == (
            {"parcels": 1},
            {"fulfilled": 1},
        )
