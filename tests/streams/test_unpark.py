"""unpark.lua: what an ordered branch leaves when it is ordered no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.event import NewEvent
from headgate.streams.outcome import Kind, Outcome
from headgate.streams.owner import unpark
from streams.contenders import contenders, data
from streams.desk import desk, retried, take

if TYPE_CHECKING:
    from headgate.streams import Server


async def test_what_was_parked_is_set_free_when_the_branch_is_ordered_no_longer(server: Server) -> None:
    async with desk(server) as canal:
        (worker,) = await contenders(canal, "w1.x")
        await worker.take()
        await canal.publish(*(NewEvent(data=n, key="k") for n in range(600)))
        first, *behind = await worker.read(600)
        await worker.consumer.settle([retried(first), *(Outcome(each, Kind.PARK) for each in behind)])
        assert (await canal.measured()).branches["a"].backlog == 600
        await worker.consumer.release()
        assert [await unpark(server, canal.keys, "a") for _ in range(3)] == [500, 99, 0]
        plain = await canal.consumer("w2.x")
        freed = data(await take(plain, 600))
        figures = (await canal.measured()).branches["a"]
        partition = canal.keys.partition(0)
        for key in (partition.blocked("a"), partition.parked("a", "k"), partition.owner("a")):
            assert await canal.command(key, "EXISTS", key) == 0
    assert sorted(freed) == list(range(600))
    assert figures.backlog == 600
