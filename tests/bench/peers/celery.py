"""Celery: `celery worker`, tasks in its own process, a hundred prefetched; no results, no events, no gossip."""

from __future__ import annotations

from celery import Celery

from bench.peers.shared import DATA, URL, handled

app = Celery("bench", broker=URL)
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=100,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="handle")
def handle(data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


def enqueue(events: int) -> None:
    """Fills the queue, over one connection."""
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(events):
            handle.apply_async((DATA,), producer=producer)
