"""What follows a failed attempt: another one later, or the end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

from headgate.logs import about
from headgate.streams.outcome import Kind

if TYPE_CHECKING:
    from headgate.contract import RetryContract
    from headgate.retry_rules import RetryRules
    from headgate.streams.outcome import Outcome

log = structlog.get_logger("headgate.worker")
_SAID = 2000  # bytes of an error's text that rules look at and logs keep, as dead letters do
JITTER = 0.1
"""Of a delay, either way: failures that came together do not come back together."""


class Retries:
    """A branch's rules for what failed; raises RetryRuleError when one of them is no regular expression."""

    def __init__(self, retry: RetryContract, jitter: float = JITTER) -> None:
        self._retry = retry
        self._jitter = jitter
        self._rules: RetryRules | None = None
        if retry.rules:
            from headgate.retry_rules import RetryRules  # noqa: PLC0415 - a branch without rules does not pay

            self._rules = RetryRules(retry.rules)

    def complete(self, outcome: Outcome) -> None:
        """Sets the delay of a retry, or turns it into a dead letter: no attempt is left, or none is worth it.

        A delay that the outcome has already is what the handler asked for at least.
        """
        event = outcome.delivery.event
        said = outcome.detail[:_SAID].decode(errors="replace")
        if outcome.kind is Kind.RETRY and not self._goes_on(event.attempt, said):
            outcome.kind = Kind.DEAD
            outcome.delay_ms = 0
        if outcome.kind is Kind.DEAD:
            log.error("event.dead_lettered", error=said, **about(event))
            return
        delay = self._retry.delay_seconds(event.attempt) * random.uniform(1 - self._jitter, 1 + self._jitter)
        outcome.delay_ms = max(outcome.delay_ms, int(delay * 1000))
        log.warning("event.retried", error=said, again_in_seconds=outcome.delay_ms / 1000, **about(event))

    def _goes_on(self, attempt: int, error: str) -> bool:
        if attempt >= self._retry.max_attempts:
            return False
        return self._rules is None or self._rules.is_retryable(error)
