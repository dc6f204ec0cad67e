"""What follows a failed attempt: another one later, or the end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

from headgate.streams.outcome import Kind

if TYPE_CHECKING:
    from headgate.contract import RetryContract
    from headgate.streams.outcome import Outcome

log = structlog.get_logger("headgate.worker")
_JITTER = 0.1  # of the delay, either way: failures that came together do not come back together


def next_outcome(outcome: Outcome, retry: RetryContract) -> None:
    """Completes a failure: sets the delay of a retry, or turns one without attempts left into a dead letter."""
    event = outcome.delivery.event
    said = outcome.detail.decode(errors="replace")
    if outcome.kind is Kind.RETRY and event.attempt >= retry.max_attempts:
        outcome.kind = Kind.DEAD
    if outcome.kind is Kind.DEAD:
        log.error("event.dead_lettered", event_id=event.id, attempt=event.attempt, error=said)
        return
    delay = retry.delay_seconds(event.attempt) * random.uniform(1 - _JITTER, 1 + _JITTER)
    outcome.delay_ms = int(delay * 1000)
    log.warning(
        "event.retried",
        event_id=event.id,
        attempt=event.attempt,
        error=said,
        again_in_seconds=round(delay, 3),
    )
