"""Publishes deliveries of stock, and orders: python examples/order-processing/load.py --orders 200 --rate 40 --seed 7

The same seed makes the same events, ids included: publishing them again changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import Any

from headgate import NewEvent, connect

BRANCHES = ("inventory", "payment", "notification")
SCARCE = "last-ten"
"""A product that more is ordered of than there is, one by one, by customers whose cards are good."""
CONTESTED = "contested"
"""A product that more is ordered of than there is, and some of it comes back from orders that fail."""
STOCK = {SCARCE: 10, CONTESTED: 25} | {f"product-{number}": 100_000 for number in range(40)}
FOREVER = 1000  # attempts


def deliveries(seed: int = 0) -> list[NewEvent]:
    """What the shelves are filled with: one event a product."""
    return [
        NewEvent(id=f"delivery-{seed}-{sku}", type="stock.received", key=sku, data={"quantity": quantity})
        for sku, quantity in STOCK.items()
    ]


def orders(count: int, seed: int = 0, *, unanswered: int = 0, slow: float = 0.1) -> list[NewEvent]:
    """`count` orders, of the first `unanswered` of which the payment provider never says anything.

    The three answers take 0, `slow` and twice `slow` seconds, in any order; every tenth service fails once or
    twice; some cards are declined.
    """
    dice = random.Random(seed)
    made = []
    for number in range(count):
        sku = dice.choice([*[SCARCE] * 8, *[CONTESTED] * 6, *STOCK]) if number >= unanswered else "product-0"
        # Of the two that many want at once, one order after another is looked at: nobody is slow there.
        step = slow if sku.startswith("product") else 0
        seconds = dict(zip(dice.sample(BRANCHES, 3), (0, step, 2 * step), strict=True))
        fails = {branch: dice.randint(1, 2) for branch in BRANCHES if dice.random() < 0.1}
        if number < unanswered:
            fails["payment"] = FOREVER
        data = {
            "quantity": 1 if sku == SCARCE else dice.randint(1, 3),
            "cents": dice.randint(100, 20_000),
            "card": "declined" if sku != SCARCE and dice.random() < 0.2 else "good",
            "seconds": seconds,
            "fails": fails,
        }
        made.append(NewEvent(id=f"order-{seed}-{number}", type="order.placed", key=sku, data=data))
    return made


def sample(count: int) -> list[NewEvent]:
    """`count` events for `headgate run --publish`: deliveries, then orders."""
    seed = random.randrange(10**9)
    return [*deliveries(seed), *orders(max(0, count - len(STOCK)), seed)][:count]


async def publish(asked: argparse.Namespace) -> dict[str, Any]:
    """Publishes what was asked for, the orders in slices of a tenth of a second at a rate; gives what it published."""
    placed = orders(asked.orders, asked.seed, unanswered=asked.unanswered, slow=asked.slow)
    size = max(1, round(asked.rate / 10)) if asked.rate else max(1, len(placed))
    async with connect("orders", namespace=asked.namespace, url=asked.redis_url) as shop:
        receipts = await shop.publish(deliveries(asked.seed))
        for start in range(0, len(placed), size):
            receipts += await shop.publish(placed[start : start + size])
            if asked.rate:
                await asyncio.sleep(size / asked.rate)
    new = sum(not receipt.duplicate for receipt in receipts)
    return {"published": new, "duplicates": len(receipts) - new, "orders": len(placed), "seed": asked.seed}


def main() -> None:
    """Reads the command line, publishes, and says what in one line of JSON."""
    parser = argparse.ArgumentParser(description="Publishes stock and orders into the pipeline `orders`.")
    parser.add_argument("--redis-url", help="the server; without it that of HEADGATE_REDIS_URL")
    parser.add_argument("--namespace", default="default", help="of the pipeline (%(default)s)")
    parser.add_argument("--orders", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--rate", type=float, help="orders a second; without it all at once")
    parser.add_argument(
        "--unanswered", type=int, default=0, help="orders whose payment is never answered (%(default)s)"
    )
    parser.add_argument("--slow", type=float, default=0.1, help="seconds of a slow answer (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**9), help="the same makes the same events"
    )
    print(json.dumps(asyncio.run(publish(parser.parse_args()))))


if __name__ == "__main__":
    main()
