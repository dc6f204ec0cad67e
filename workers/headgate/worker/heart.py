"""A worker's heart: heartbeats that keep its lease, claims from the dead, and the housekeeping done in passing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headgate.streams.errors import LeaseLostError, NotProvisionedError, StreamsError
from headgate.streams.owner import unpark
from headgate.streams.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.contract import BranchContract
    from headgate.streams.consumer import Consumer
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server
    from headgate.worker.flow import Flow
    from headgate.worker.intake import Intake
    from headgate.worker.lease import Lease
    from headgate.worker.metrics import WorkerMetrics

log = structlog.get_logger("headgate.worker")
SILENT_SECONDS = 10.0  # without an answer: the connection is dead, whatever TCP says
_SWEEP_EVERY = 3  # heartbeats


class Heart:
    """Beats on every partition, three times in the time that makes a consumer dead.

    `lose` forgets the lease, `suspect` says that replies may have been lost, `unanswered` that a connection is dead,
    `look` is called after each beat.
    """

    def __init__(
        self,
        server: Server,
        keys: PipelineKeys,
        contract: BranchContract,
        *,
        consumers: Sequence[Consumer],
        intake: Intake,
        metrics: WorkerMetrics,
        lease: Lease,
        lose: Callable[[], None],
        suspect: Callable[[], None],
        unanswered: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        self.claims = True
        """Whether it claims from the dead."""
        self.claim_more = asyncio.Event()
        self._server = server
        self._keys = keys
        self._contract = contract
        self._consumers = consumers
        self._intake = intake
        self._metrics = metrics
        self._lease = lease
        self._lose = lose
        self._suspect = suspect
        self._unanswered = unanswered
        self._look = look

    async def run(self, flow: Flow) -> None:
        """Beats until cancelled; sweeps now and then.

        One more beat comes as soon as all is settled that the last one claimed: there may be more to claim.
        """
        every = self._contract.claim_after_seconds / 3
        beats = 0
        while True:
            is_for_claims = self.claim_more.is_set()
            self.claim_more.clear()
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    await self.beat(flow)
                    beats += not is_for_claims
                    if beats % _SWEEP_EVERY == 0 and not is_for_claims:
                        await self._sweep(flow)
                        flow.relayer.ring()
            except (LeaseLostError, NotProvisionedError) as error:
                self._lease.answered()
                log.warning("worker.lease_lost", error=str(error), held=self._intake.held)
                self._lose()
            except TimeoutError:
                self._metrics.server_failures += 1
                log.warning("beat.unanswered", seconds=SILENT_SECONDS)
                self._suspect()
                self._unanswered()
            except (StreamsError, OSError) as error:
                self._metrics.server_failures += 1
                log.warning("beat.unavailable", error=str(error))
                self._suspect()
            self._look()
            try:
                async with asyncio.timeout(every):
                    await self.claim_more.wait()
            except TimeoutError:
                pass

    async def beat(self, flow: Flow) -> None:
        """One heartbeat on every partition, and what it claims. Raises StreamsError."""
        for consumer in self._consumers:
            while consumer.lease:
                # What the dead held of an ordered branch goes to whoever takes their partitions, in order.
                is_claiming = self.claims and flow.ordered is None
                claims = self._intake.claimable(len(flow.claimed)) if is_claiming else 0
                claimed = await consumer.beat(claims)
                if claimed:
                    self._metrics.claimed += len(claimed)
                    log.info("worker.claimed", events=len(claimed), partition=consumer.partition)
                    flow.claimed.update(flow.accept_new(claimed))
                self._lease.answered()
                if not claimed or len(claimed) < claims:
                    break

    async def _sweep(self, flow: Flow) -> None:
        swept = await sweep(self._server, self._keys, self._contract.join)
        if swept.lost or swept.dropped:
            log.warning("sweep.lost", unsettled_events=swept.lost, dead_letters=swept.dropped)
        if flow.ordered is None and (freed := await unpark(self._server, self._keys, self._contract.branch)):
            log.info("sweep.unparked", events=freed)
