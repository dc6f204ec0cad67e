"""The data plane while no operator runs: workers go on with all there is, and what the last one held back flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.contract import JoinContract
from headgate.event import Lane, NewEvent
from headgate.join import read_records
from headgate.streams import BackpressureError, Gate, Rejection, Server, set_gate, set_rejection
from headgate_operator.gating import GATE_TTL_SECONDS
from streams.desk import QUICK, desk, eventually
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

JOIN = JoinContract(branches=("a", "b"), timeout_seconds=2)
HELD = frozenset({Lane.LOW})


@pytest.mark.parametrize("server", ["redis7"], indirect=True)
async def test_workers_retry_join_and_time_out_and_gates_open_without_an_operator(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, ("a", "b"), join=JOIN) as canal:
        await canal.publish(NewEvent(id="late", data={"do": "return", "result": 0}, lane=Lane.LOW))
        # The last that the operator did: it held Low back from the workers and refused it to publishers.
        await set_gate(server, canal.keys, "a", Gate(HELD, max_delay_seconds=600), GATE_TTL_SECONDS)
        await set_rejection(server, canal.keys, Rejection(HELD, "Throttle", 1), GATE_TTL_SECONDS)
        with pytest.raises(BackpressureError):
            await canal.publish(NewEvent(data=0, lane=Lane.LOW))
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract("a", retry=QUICK))
            await canal.publish(
                NewEvent(id="soon", data={"do": "return", "result": 1}),
                NewEvent(id="again", data={"do": "fail-once", "result": 2}),
            )

            async def of_time_out() -> bool:
                return (await canal.measured()).partial > 0

            await eventually(of_time_out, "a join to time out")
            workers.start(canal.contract("b", retry=QUICK))
            for branch in ("a", "b"):
                assert (await canal.settled(branch, 3)).done == 3

            async def taken() -> bool:
                try:
                    await canal.publish(NewEvent(id="free", data={"do": "return"}, lane=Lane.LOW))
                except BackpressureError:
                    return False
                return True

            await eventually(taken, "publishers to be refused nothing")
            for branch in ("a", "b"):
                await canal.settled(branch, 4)
        records = {record.id for record in await read_records(server, canal.keys)}
    assert records == {"soon", "again", "late", "free"}
