"""Settling in batches: while one settle is under way the next one gathers, so that batches grow with the load."""

from __future__ import annotations

import asyncio
import contextvars
from operator import attrgetter
from typing import TYPE_CHECKING

import structlog

from headgate.streams.errors import LeaseLostError, NotProvisionedError, ServerUnavailableError, StreamsError
from headgate.streams.outcome import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.streams.consumer import Consumer
    from headgate.streams.outcome import Outcome, Settled

log = structlog.get_logger("headgate.worker")
_MOST = 500  # outcomes a settle: the server is everybody's
_MOST_EFFECTS = 2000  # and of their effects, unless one outcome alone has more
_effects_of = attrgetter("effects")
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class Settler:
    """Settles one partition's outcomes; tells `settled` of each batch and what that did (None: fenced off)."""

    def __init__(
        self,
        consumer: Consumer,
        settled: Callable[[Sequence[Outcome], Settled | None], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._consumer = consumer
        self._settled = settled
        self._broken = broken
        self._context = contextvars.copy_context()
        self._outcomes: list[Outcome] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, outcome: Outcome) -> None:
        """Settles an outcome soon."""
        self._outcomes.append(outcome)
        if self._task is None:
            # In the settler's own context: it settles for every slot, and is about no event in particular.
            name = f"settle-{self._consumer.partition}"
            self._task = asyncio.create_task(self._flush(), name=name, context=self._context.copy())

    async def drain(self) -> None:
        """Returns when everything added is settled."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _flush(self) -> None:
        try:
            while self._outcomes:
                most = _batch_size(self._outcomes)
                batch, self._outcomes = self._outcomes[:most], self._outcomes[most:]
                lease = self._consumer.lease
                stale = [outcome for outcome in batch if outcome.delivery.lease != lease]
                if stale:
                    self._settled(stale, None)
                    batch = [outcome for outcome in batch if outcome.delivery.lease == lease]
                if batch:
                    settled = await self._settle(batch)
                    if settled is None:
                        batch = self._keep_adopted(batch, lease)
                    if batch:
                        self._settled(batch, settled)
        except Exception as error:  # noqa: BLE001 - handed on, to end the worker loudly
            self._broken(error)
        finally:
            self._task = None

    def _keep_adopted(self, batch: list[Outcome], lease: str) -> list[Outcome]:
        """Of a batch refused under `lease` what is not ours any more; the rest is settled next.

        What was claimed back under a new lease meanwhile is pending there: dropped, it would stay so for ever.
        """
        now = self._consumer.lease
        if now == lease:
            return batch
        self._outcomes[:0] = [outcome for outcome in batch if outcome.delivery.lease == now]
        return [outcome for outcome in batch if outcome.delivery.lease != now]

    async def _settle(self, batch: Sequence[Outcome]) -> Settled | None:
        attempt = 0
        while True:
            try:
                return await self._consumer.settle(batch)
            except ServerUnavailableError as error:
                # The outcome is known and the script idempotent: ask until it is durable or the lease is gone.
                wait = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                attempt += 1
                log.warning("settle.unavailable", error=str(error), events=len(batch), again_in_seconds=wait)
                await asyncio.sleep(wait)
                if any(outcome.delivery.lease != self._consumer.lease for outcome in batch):
                    return None
            except (LeaseLostError, NotProvisionedError) as error:
                log.warning("settle.fenced", error=str(error), events=len(batch))
                return None
            except StreamsError as error:
                # Asking again would not help, and going on would hold these events for as long as the worker lives.
                log.error("settle.refused", error=str(error), events=len(batch), kinds=_kinds(batch))  # noqa: TRY400
                raise


def _batch_size(outcomes: Sequence[Outcome]) -> int:
    """How many of the outcomes to settle at once; one at least."""
    if not any(map(_effects_of, outcomes)):
        return _MOST
    effects = 0
    for number, outcome in enumerate(outcomes[:_MOST]):
        effects += len(outcome.effects) // 4
        if effects > _MOST_EFFECTS and number:
            return number
    return _MOST


def _kinds(batch: Sequence[Outcome]) -> dict[str, int]:
    return {kind.value: sum(outcome.kind is kind for outcome in batch) for kind in Kind}
