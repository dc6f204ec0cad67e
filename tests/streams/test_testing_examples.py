"""The examples' pipelines in tests of ten lines, as whoever copies one would write them."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from unittest.mock import AsyncMock

from headgate import NewEvent
from headgate.testing import pipeline

EXAMPLES = Path(__file__).parents[2] / "examples"


async def test_an_order_that_is_never_paid_fails_and_gives_its_goods_back() -> None:
    async with pipeline(EXAMPLES / "order-processing" / "pipeline.yaml") as orders:
        await orders.publish({"quantity": 3}, type="stock.received", key="tea", id="delivery-1")
        await orders.settled()
        never = {"quantity": 2, "cents": 700, "card": "good", "fails": {"payment": 1000}}
        await orders.publish(never, type="order.placed", key="tea", id="order-1")
        await orders.settled()
        decided = await orders.other("order-status").value("order-1")
        assert (decided["status"], decided["inventory"]) == ("Failed", "reserved")
        assert await orders.value("tea") == {"left": 3, "held": {}}
        assert orders.seconds == 9  # ten attempts, a second apart


async def test_a_payment_reported_twice_ships_once_when_the_carrier_is_back() -> None:
    stock = AsyncMock(return_value="taken")
    async with pipeline(
        EXAMPLES / "payment-events" / "pipeline.yaml", handlers={"inventory": stock}
    ) as payments:
        data = {
            "payment": "p1",
            "address": {"postcode": "1010"},
            "items": {"tea": 2},
            "carrier": {"fails": 4},
        }
        event = NewEvent(id="p1", data=data, type="payment.succeeded")
        assert [receipt.duplicate for receipt in await payments.publish(event, event)] == [False, True]
        await payments.settled()
        assert (await payments.counts(), payments.seconds) == ({"parcels": 1}, 4)
        assert await payments.other("outcomes").counts() == {"fulfilled": 1}


async def test_a_subscriber_that_stays_away_is_given_up_after_its_twentieth_attempt() -> None:
    stock = AsyncMock(side_effect=ConnectionError)
    async with pipeline(
        EXAMPLES / "payment-events" / "pipeline.yaml", handlers={"inventory": stock}
    ) as payments:
        data = {"payment": "p1", "address": {"postcode": "1010"}, "items": {"tea": 2}}
        await payments.publish(data, id="p1", type="payment.succeeded")
        await payments.advance(1 + 2 + 4 + 8 + 16 + 32 + 13 * 60 - 1)
        assert await payments.other("outcomes").counts() == {}
        await payments.advance(1)
        assert await payments.other("outcomes").counts() == {"not by inventory": 1}


async def test_a_text_is_counted_in_chunks() -> None:
    async with pipeline(EXAMPLES / "word-count" / "pipeline.yaml") as jobs:
        text = b"the gate at the head of a canal decides how much water each branch of the canal gets"
        await jobs.publish({"text": b64encode(text).decode(), "chunks": 5}, id="job-1", type="job")
        await jobs.settled()
        total = await jobs.other("word-totals").value("job-1")
        assert (total["partial"], total["words"]["the"], total["words"]["canal"]) == (False, 3, 2)
        assert len(jobs.attempts("map")) == 5
