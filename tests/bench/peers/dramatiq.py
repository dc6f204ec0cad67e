"""Dramatiq: `dramatiq`, one process with eight threads, its own default; no middleware but what retries need."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from bench.peers.shared import DATA, URL, handled

broker = RedisBroker(url=URL, middleware=[Retries()])
dramatiq.set_broker(broker)


@dramatiq.actor
def handle(data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


def enqueue(events: int) -> None:
    """Fills the queue."""
    for _ in range(events):
        handle.send(DATA)
