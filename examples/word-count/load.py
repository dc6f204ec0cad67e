"""Publishes texts whose words are to be counted: the Declaration of Independence, and any number of longer ones.

    python examples/word-count/load.py --jobs 20 --words 5000 --chunks 16 --broken 2

The same seed gives the same texts. The last line that it prints says what it published, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from headgate import NewEvent, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

DECLARATION = Path(__file__).with_name("declaration.txt").read_text()
# Beyond ASCII: letters of two and three bytes, and words with both kinds of apostrophe.
FOREIGN = ("Ærøskøbing", "café", "l\u2019été", "naïve", "o'clock", "мир", "Ελλάδα", "水")
BETWEEN = (" ", " ", " ", ", ", ".\n", " -- ", "\t")
NO_TEXT = b"\xff\xfe"  # in no text of UTF-8


def jobs(
    count: int,
    *,
    seed: int = 1,
    words: int = 2000,
    chunks: int = 8,
    seconds: float = 0,
    broken: int = 0,
) -> Iterator[NewEvent]:
    """Jobs, the first of them the Declaration, the last `broken` of them with two bytes somewhere that are no text."""
    for number in range(count):
        dice = random.Random(f"{seed}/{number}")
        text = (made(dice, words) if number else DECLARATION).encode()
        if number >= count - broken:
            at = dice.randrange(len(text))
            text = text[:at] + NO_TEXT + text[at:]
        yield NewEvent(
            id=f"job-{seed}-{number}",
            type="job",
            data={"text": b64encode(text).decode(), "chunks": chunks, "seconds": seconds},
        )


def made(dice: random.Random, words: int) -> str:
    """A text of so many words, some of them several times."""
    vocabulary = [*dice.sample(DECLARATION.split(), 200), *FOREIGN]
    return "".join(dice.choice(vocabulary) + dice.choice(BETWEEN) for _ in range(words))


async def publish(events: list[NewEvent], namespace: str, url: str | None) -> int:
    """Publishes them; how many were new."""
    async with connect("word-count", namespace=namespace, url=url) as pipeline:
        return sum(not receipt.duplicate for receipt in await pipeline.publish(events))


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes texts whose words are to be counted.")
    parser.add_argument(
        "--redis-url", default=os.environ.get("HEADGATE_REDIS_URL"), help="the pipeline's server"
    )
    parser.add_argument("--namespace", default="default", help="the pipeline's namespace (%(default)s)")
    parser.add_argument("--jobs", type=int, default=6, help="how many texts (%(default)s)")
    parser.add_argument("--words", type=int, default=2000, help="of each but the first (%(default)s)")
    parser.add_argument("--chunks", type=int, default=8, help="that each is split into (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0, help="that a chunk takes longer (%(default)s)")
    parser.add_argument("--broken", type=int, default=0, help="texts with bytes that are none (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the texts, and in their ids (%(default)s)")
    said = parser.parse_args()
    events = list(
        jobs(
            said.jobs,
            seed=said.seed,
            words=said.words,
            chunks=said.chunks,
            seconds=said.seconds,
            broken=said.broken,
        )
    )
    published = asyncio.run(publish(events, said.namespace, said.redis_url))
    print(json.dumps({"published": published, "jobs": [event.id for event in events]}))


if __name__ == "__main__":
    main()
