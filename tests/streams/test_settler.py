"""The settler while leases come and go: nothing that is this worker's again is left lying."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.streams.errors import ServerUnavailableError
from headgate.streams.outcome import Kind, Outcome
from headgate.worker.intake import Intake
from headgate.worker.settler import Settler
from streams.desk import desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from headgate.streams import Server
    from headgate.streams.outcome import Settled


async def test_what_is_claimed_back_while_its_settle_waits_for_the_server_is_settled_under_the_new_lease(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of a batch was claimed under a new lease by the time that its settle is asked again."""
    async with desk(server) as canal:
        await canal.publish(1, 2, 3)
        consumer = await canal.consumer("w1.old")
        deliveries, _, _ = await consumer.read(10)
        intake = Intake(8, 1)
        intake.take(deliveries)
        settle, is_cut = consumer.settle, asyncio.Event()

        async def cut(outcomes: Sequence[Outcome]) -> Settled:
            if not is_cut.is_set():
                is_cut.set()
                raise ServerUnavailableError("Redis server: connection lost")
            return await settle(outcomes)

        monkeypatch.setattr(consumer, "settle", cut)
        fenced: list[str] = []
        broken: list[BaseException] = []

        def settled(outcomes: Sequence[Outcome], what: Settled | None) -> None:
            intake.give([outcome.delivery for outcome in outcomes])
            if what is None:
                fenced.extend(outcome.delivery.event.id for outcome in outcomes)

        settler = Settler(consumer, settled, broken.append)
        for delivery in deliveries:
            settler.add(Outcome(delivery, Kind.DONE))
        await is_cut.wait()
        await consumer.release()
        await consumer.register("w1.new")
        assert intake.adopt(await consumer.beat(2)) == []
        await settler.drain()
        assert broken == []
        assert fenced == [deliveries[2].event.id]
        assert (await canal.measured()).branches["a"].done == 2
        assert len(await consumer.beat(10)) == 1
