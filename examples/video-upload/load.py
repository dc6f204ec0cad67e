"""Publishes uploads: python load.py --uploads 120 --seed 7

The same seed makes the same uploads, ids included: publishing them again adds nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate import NewEvent, connect

COUNTRIES = ("BR", "DE", "IN", "JP", "US")
WORDS = (
    "bread",
    "canal",
    "guitar",
    "harbour",
    "linux",
    "marathon",
    "redis",
    "sourdough",
    "streams",
    "trains",
)
USERS = [f"user-{number}" for number in range(40)]
CHANNELS = [f"channel-{number}" for number in range(8)]
FIRST = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def uploads(count: int, seed: int = 0) -> list[NewEvent]:
    """`count` uploads, one every five seconds; the mail provider refuses every tenth once or twice."""
    dice = random.Random(seed)
    subscribers = {channel: dice.sample(USERS, dice.randint(3, 12)) for channel in CHANNELS}
    return [_upload(f"video-{seed}-{number}", number, subscribers, dice) for number in range(count)]


def _upload(video: str, number: int, subscribers: dict[str, list[str]], dice: random.Random) -> NewEvent:
    channel = dice.choice(CHANNELS)
    data = {
        "title": f"How to {' and '.join(dice.sample(WORDS, 3))}",
        "at": (FIRST + timedelta(seconds=5 * number)).isoformat(),
        "country": dice.choice(COUNTRIES),
        "megabytes": dice.randint(20, 80),
        "stills": [{"second": second, "sharpness": dice.random()} for second in (1, 10, 60, 300)],
        "subscribers": subscribers[channel],
        "mail_refusals": 1 + dice.randrange(2) if number % 10 == 0 else 0,
    }
    return NewEvent(id=video, key=channel, type="video.published", data=data)


async def publish(asked: argparse.Namespace) -> dict[str, Any]:
    """Publishes what was asked for; gives what it published."""
    events = uploads(asked.uploads, asked.seed)
    async with connect("video-upload", namespace=asked.namespace, url=asked.redis_url) as pipeline:
        receipts = await pipeline.publish(events)
    return {
        "published": sum(not receipt.duplicate for receipt in receipts),
        "duplicates": sum(receipt.duplicate for receipt in receipts),
        "notifications": sum(len(event.data["subscribers"]) for event in events),
        "mail_refusals": sum(event.data["mail_refusals"] for event in events),
        "seed": asked.seed,
    }


def main() -> None:
    """Reads the command line, publishes, and says what in one line of JSON."""
    parser = argparse.ArgumentParser(description="Publishes uploads into the pipeline video-upload.")
    parser.add_argument("--redis-url", help="the server; without it that of HEADGATE_REDIS_URL")
    parser.add_argument("--namespace", default="default", help="of the pipeline")
    parser.add_argument("--uploads", type=int, default=120, help="how many")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**9), help="the same makes the same uploads"
    )
    print(json.dumps(asyncio.run(publish(parser.parse_args()))))


if __name__ == "__main__":
    main()
