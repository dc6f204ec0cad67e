"""RQ: `rq worker` with its SimpleWorker, which runs jobs in its own process and forks none; results not kept."""

from __future__ import annotations

from redis import Redis
from rq import Queue

from bench.peers.shared import AT_ONCE, DATA, URL, handled


def handle(data: str) -> None:  # noqa: ARG001
    """Does nothing but being counted."""
    handled()


def enqueue(events: int) -> None:
    """Fills the queue."""
    queue = Queue(connection=Redis.from_url(URL))
    job = Queue.prepare_data(handle, (DATA,), result_ttl=0)
    for start in range(0, events, AT_ONCE):
        queue.enqueue_many([job._replace(job_id=None) for _ in range(min(AT_ONCE, events - start))])
