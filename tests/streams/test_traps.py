"""What holds other scalers at zero, or lets them strand work, at the real pilot over real servers.

Each branch is first at zero with work, and must be woken; then it has workers that settle nothing for as long as it
takes, and must keep one; then the work is settled, and it must go back to zero, or nothing was shown. How many workers
there are is written down instead of started: a process each would only slow the same decisions down.
"""

from __future__ import annotations

import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from headgate.event import Lane
from headgate.streams import Server
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.pilot import Pilot
from headgate_operator.pipeline import Pipeline, load_pipeline
from headgate_operator.substrates import Workers
from streams.desk import Desk, desk, done, retried, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from headgate_operator.readings import BranchReading

WINDOW_SECONDS = 5
COUNTED = 10_000  # entries that measure.lua counts at most where the server does not know


class Written:
    """A substrate on which workers are numbers, ready at once."""

    def __init__(self) -> None:
        self.workers = 0

    async def apply(self, _: Pipeline) -> int:
        return 0

    async def observe(self, _: Pipeline) -> dict[str, Workers]:
        return {"a": Workers(self.workers, self.workers, self.workers)}

    async def scale(self, _: Pipeline, _branch: str, replicas: int, _holding: Mapping[str, int]) -> None:
        self.workers = replicas

    async def remove(self, _: Pipeline) -> None:
        self.workers = 0


class Tower:
    """The real pilot over a desk's one branch, on a clock that the test moves."""

    def __init__(self, canal: Desk, server: Server | None = None) -> None:
        self.canal = canal
        self.place = Written()
        self.now = 0.0
        self.pilot = Pilot(lambda _: server or canal.server, self.place, clock=lambda: self.now)
        self.pilot.add(_pipeline())

    @property
    def lane(self) -> str:
        """The key of the one lane that is used."""
        return self.canal.keys.partition(0).lane(Lane.NORMAL)

    async def redis(self, *command: str | int) -> None:
        """What somebody does by hand to that lane; `LANE` stands for its key."""
        await self.canal.command(self.lane, *(self.lane if part == "LANE" else part for part in command))

    async def lag(self) -> int | None:
        """What the server says that the branch has not read."""
        (group,) = await self.canal.command(self.lane, "XINFO GROUPS", self.lane)
        lag: int | None = group["lag"]
        return lag

    async def tick(self, seconds: float = 1.0) -> BranchReading:
        """One look of the pilot, after so many seconds."""
        self.now += seconds
        readings = await self.pilot.tick()
        return readings["test", "canal"].branches["a"]

    async def wakes(self) -> None:
        """At zero: a worker is there after one look."""
        assert self.place.workers == 0
        await self.tick()
        assert self.place.workers > 0

    async def holds(self, workers: int = 3) -> None:
        """With workers that settle nothing, for many windows: never at zero."""
        self.place.workers = workers
        for _ in range(20):
            await self.tick(WINDOW_SECONDS)
            assert self.place.workers > 0

    async def rests(self) -> None:
        """Nothing is left: at zero once the window has passed, for good."""
        for _ in range(4):
            reading = await self.tick(WINDOW_SECONDS)
        assert reading.backlog == 0
        assert self.place.workers == 0

    async def is_never_stranded(self) -> None:
        """Wakes, holds while nothing is settled, and rests when everything is."""
        await self.wakes()
        await self.holds()
        consumer = await self.canal.consumer()
        while deliveries := await take(consumer):
            await consumer.settle([done(delivery) for delivery in deliveries])
        await self.rests()


def _pipeline() -> Pipeline:
    handler = {"python": {"image": "canal:1", "function": "canal:work"}}
    scale = {"min": 0, "max": 5, "scaleDownAfterSeconds": WINDOW_SECONDS}
    return load_pipeline(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": "test", "name": "canal"},
            "spec": {"branches": [{"name": "a", "handler": handler, "scale": scale}]},
        }
    )


@pytest.fixture
async def tower(server: Server) -> AsyncIterator[Tower]:
    async with desk(server) as canal:
        yield Tower(canal)


async def test_one_single_event_wakes_a_branch(tower: Tower) -> None:
    await tower.rests()
    await tower.canal.publish("only")
    await tower.is_never_stranded()


async def test_a_group_made_at_the_end_of_a_full_stream_is_woken_by_what_comes_after(tower: Tower) -> None:
    await tower.canal.publish(*range(50))
    await tower.redis("XGROUP", "DESTROY", "LANE", "a")
    await tower.redis("XGROUP", "CREATE", "LANE", "a", "$")
    await tower.rests()
    await tower.canal.publish("after")
    assert (await tower.canal.measured()).branches["a"].backlog == 1
    await tower.is_never_stranded()


async def test_a_group_made_in_mid_stream_is_woken_by_what_lies_before_it(tower: Tower) -> None:
    receipts = await tower.canal.publish(*range(50))
    await tower.redis("XGROUP", "DESTROY", "LANE", "a")
    await tower.redis("XGROUP", "CREATE", "LANE", "a", receipts[29].entry)
    assert await tower.lag() is None
    assert (await tower.canal.measured()).branches["a"].backlog == 20
    await tower.is_never_stranded()


async def test_an_entry_deleted_ahead_of_the_group_does_not_hide_the_others(tower: Tower) -> None:
    receipts = await tower.canal.publish(*range(10))
    await tower.redis("XDEL", "LANE", receipts[6].entry)
    assert await tower.lag() is None
    assert (await tower.canal.measured()).branches["a"].backlog == 9
    await tower.is_never_stranded()


async def test_entries_that_are_only_pending_keep_a_worker(tower: Tower) -> None:
    await tower.canal.publish(*range(10))
    held = await tower.canal.consumer("dead.x")
    deliveries = await take(held)
    assert await tower.lag() == 0
    await tower.wakes()
    await tower.holds()
    await held.settle([done(delivery) for delivery in deliveries])
    await tower.rests()


async def test_entries_that_are_only_delayed_keep_a_worker(tower: Tower) -> None:
    await tower.canal.publish("again")
    consumer = await tower.canal.consumer()
    await consumer.settle([retried(delivery, 3_600_000) for delivery in await take(consumer)])
    figures = (await tower.canal.measured()).branches["a"]
    assert (figures.undelivered, figures.pending, figures.delayed) == (0, 0, 1)
    await tower.wakes()
    await tower.holds()
    delayed = tower.canal.keys.partition(0).delayed("a")
    await tower.canal.command(delayed, "DEL", delayed)
    await tower.rests()


async def test_a_trim_past_the_group_leaves_what_is_there_and_no_phantom(tower: Tower) -> None:
    await tower.canal.publish(*range(20))
    await tower.redis("XTRIM", "LANE", "MAXLEN", "=", 5)
    assert (await tower.canal.measured()).branches["a"].backlog == 5
    await tower.is_never_stranded()


async def test_a_lag_that_a_trim_made_wrong_is_right_again_after_a_look(tower: Tower) -> None:
    await tower.canal.publish(*range(20))
    await tower.redis("XTRIM", "LANE", "MAXLEN", "=", 5)
    consumer = await tower.canal.consumer()
    await consumer.settle([done(delivery) for delivery in await take(consumer)])
    await tower.rests()
    await tower.canal.publish(*range(20, 40))
    await consumer.settle([done(delivery) for delivery in await take(consumer, 15)])
    assert await tower.lag() == 5
    assert (await tower.canal.measured()).branches["a"].backlog == 5
    await tower.is_never_stranded()


async def test_a_stream_that_is_gone_is_unknown_and_what_comes_after_wakes_its_branch(tower: Tower) -> None:
    await tower.canal.publish("lost")
    await tower.redis("DEL", "LANE")
    assert (await tower.canal.measured()).branches["a"].backlog is None
    tower.place.workers = 2
    assert (await tower.tick()).backlog is None
    assert tower.place.workers == 2, "unknown: held"
    await tower.tick(WINDOW_SECONDS)
    await tower.rests()
    await tower.redis("DEL", "LANE")
    await tower.canal.publish("after")
    await tower.tick(WINDOW_SECONDS)
    await tower.is_never_stranded()


async def test_a_backlog_too_long_to_count_is_unknown_and_yet_wakes_its_branch(tower: Tower) -> None:
    receipts = await tower.canal.publish(*range(COUNTED + 50))
    await tower.redis("XGROUP", "SETID", "LANE", "a", receipts[9].entry)
    assert await tower.lag() is None
    assert (await tower.canal.measured()).branches["a"].backlog is None
    await tower.is_never_stranded()


@contextlib.asynccontextmanager
async def server_without(server: Server, denied: str) -> AsyncIterator[Server]:
    """The same server as a user who may do everything but one command."""
    nodes = {await server.address(f"{{{number}}}") for number in range(60)}
    clients = [redis.Redis(host=host, port=port) for host, port in nodes]
    for client in clients:
        client.execute_command(
            "ACL SETUSER", "limited", "reset", "on", ">SECRET", "~*", "&*", "+@all", denied
        )
    parts = urlsplit(server.url)
    limited = Server.connect(urlunsplit(parts._replace(netloc=f"limited:SECRET@{parts.netloc}")))
    try:
        async with aclosing(limited):
            yield limited
    finally:
        for client in clients:
            with contextlib.closing(client):
                client.execute_command("ACL DELUSER", "limited")


async def test_a_user_who_may_not_run_info_wakes_and_holds_all_the_same(server: Server) -> None:
    async with desk(server) as canal, server_without(server, "-info") as limited:
        await canal.publish("event")
        await Tower(canal, limited).is_never_stranded()


async def test_a_user_who_may_not_run_xinfo_holds_what_is_there_and_it_is_told(server: Server) -> None:
    async with desk(server) as canal, server_without(server, "-xinfo") as limited:
        await canal.publish("event")
        tower = Tower(canal, limited)
        await tower.holds(3)
        assert tower.place.workers == 3
        error = tower.pilot.readings["test", "canal"].error
        assert "cannot be measured" in error
        assert "XINFO" in error.upper()
