"""Publishes payments that succeeded: python load.py --payments 200 --seed 7

The same seed makes the same payments, ids included: publishing them again adds nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

from headgate import NewEvent, connect

if TYPE_CHECKING:
    from collections.abc import Iterable

ARTICLES = ("lamp", "mug", "chair")
SOLD_OUT = "kettle"
STREETS = ("Canal Road", "Gate Lane", "Mill Street", "Weir Walk")


def payments(count: int, seed: int = 0, carrier_seconds: float = 0) -> list[NewEvent]:
    """`count` payments. Some go wrong, and each says so: `address`, `carrier`, `warehouse`, `items`.

    Of a hundred, ten find the carrier failing twice, two the warehouse busy once; five have no postcode, and four are
    for an article that is sold out. The carrier takes `carrier_seconds` for each.
    """
    dice = random.Random(seed)
    return [_payment(f"pay-{seed}-{number}", number, dice, carrier_seconds) for number in range(count)]


def corrected(events: Iterable[NewEvent]) -> list[NewEvent]:
    """What the shop publishes when customers have given the postcodes that were missing: for shipping alone."""
    return [
        NewEvent(
            id=f"{event.id}/corrected",
            key=event.key,
            type="payment.corrected",
            data=event.data | {"address": event.data["address"] | {"postcode": "0001"}},
        )
        for event in events
        if not event.data["address"]["postcode"]
    ]


def _payment(payment: str, number: int, dice: random.Random, carrier_seconds: float) -> NewEvent:
    articles = dice.sample(ARTICLES, dice.randint(1, len(ARTICLES)))
    if number % 25 == 24:
        articles.append(SOLD_OUT)
    data: dict[str, Any] = {
        "payment": payment,
        "address": {
            "street": f"{dice.randint(1, 99)} {dice.choice(STREETS)}",
            "postcode": "" if number % 20 == 19 else f"{dice.randint(2, 9999):04}",
        },
        "items": {article: dice.randint(1, 3) for article in articles},
        "carrier": {"fails": 2 if number % 10 == 3 else 0, "seconds": carrier_seconds},
        "warehouse": {"busy": 1 if number % 50 == 6 else 0},
    }
    return NewEvent(id=payment, key=payment, type="payment.succeeded", source="/checkout", data=data)


async def publish(asked: argparse.Namespace) -> dict[str, Any]:
    """Publishes what was asked for; gives what it published, and how much of it was there already."""
    events = payments(asked.payments, asked.seed, asked.carrier_seconds)
    if asked.corrected:
        events = corrected(events)
    duplicates = 0
    async with connect("payments", namespace=asked.namespace, url=asked.redis_url) as pipeline:
        for _ in range(asked.reports):
            receipts = await pipeline.publish(events)
            duplicates += sum(receipt.duplicate for receipt in receipts)
    return {
        "published": len(events) * asked.reports - duplicates,
        "duplicates": duplicates,
        "seed": asked.seed,
    }


def main() -> None:
    """Reads the command line, publishes, and says what in one line of JSON."""
    parser = argparse.ArgumentParser(description="Publishes payments into the pipeline payments.")
    parser.add_argument("--redis-url", help="the server; without it that of HEADGATE_REDIS_URL")
    parser.add_argument("--namespace", default="default", help="of the pipeline")
    parser.add_argument("--payments", type=int, default=200, help="how many")
    parser.add_argument("--reports", type=int, default=1, help="how often each is reported")
    parser.add_argument("--carrier-seconds", type=float, default=0, help="that the carrier takes for each")
    parser.add_argument(
        "--corrected", action="store_true", help="instead of them, corrections of those without a postcode"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same makes the same payments")
    print(json.dumps(asyncio.run(publish(parser.parse_args()))))


if __name__ == "__main__":
    main()
