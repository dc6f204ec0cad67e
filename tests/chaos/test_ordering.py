"""Workers of an ordered branch killed, frozen, drained and cut off at random: the order of every key is kept.

It is that of a store which refuses older fencing tokens, as docs/guides/order.md asks of what handlers write to.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from headgate.contract import BranchContract, Ordering, RetryContract
from headgate.event import NewEvent
from headgate.streams import Server, ServerUnavailableError
from streams.desk import Desk, desk
from streams.ordered_effects import accepted, misordered, read_lines
from streams.servers import SERVERS
from streams.workers import WorkerProcess, Workers, workers_in

if TYPE_CHECKING:
    from pathlib import Path

PARTITIONS = 5
KEYS = [f"k{n}" for n in range(12)]
SECONDS = 15.0
# Nothing here fails by its own fault: whatever ends in a dead letter was lost by us.
RETRY = RetryContract(max_attempts=100, initial_seconds=0.05, factor=1, max_seconds=0.05)


@pytest.mark.parametrize("kind", SERVERS)
async def test_whatever_happens_to_workers_the_order_of_every_key_is_kept(kind: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    with SERVERS[kind]() as url, workers_in(tmp_path, url) as workers:
        server = Server.connect(url)
        async with desk(server, partitions=PARTITIONS) as canal:
            published = await Storm(canal, workers, random.Random(seed)).run()
            figures = await canal.settled("a", sum(published.values()))
            lines = accepted(read_lines(workers.effects_path))
        await server.aclose()
    assert (figures.done, figures.dead) == (sum(published.values()), 0), seed
    assert misordered(lines) == [], seed
    ended = {(line.key, line.number) for line in lines if line.what == "end"}
    assert ended == {(key, number) for key, count in published.items() for number in range(count)}, seed


class Storm:
    """Three workers of one branch, and what may happen to them."""

    def __init__(self, canal: Desk, workers: Workers, dice: random.Random) -> None:
        self._canal = canal
        self._workers = workers
        self._dice = dice
        self._alive: list[WorkerProcess] = []

    async def run(self) -> dict[str, int]:
        """Publishes for a while, and meanwhile does to workers what it can; gives how many events each key has."""
        published = dict.fromkeys(KEYS, 0)
        for _ in range(3):
            self._start()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            events = []
            for key in self._dice.choices(KEYS, k=self._dice.randrange(1, 40)):
                data = {
                    "do": "fail-once" if self._dice.random() < 0.1 else "return",
                    "seconds": self._dice.choice([0, 0, 0, 0.01]),
                }
                events.append(NewEvent(id=f"{key}.{published[key]}", key=key, data=data))
                published[key] += 1
            await self._publish(events)
            await self._strike()
        self._thaw()
        await self._canal.server.rediscover()
        return published

    async def _publish(self, events: list[NewEvent]) -> None:
        while True:
            try:
                await self._canal.publish(*events)
            except ServerUnavailableError:
                # Our own connections were cut; the same ids may be published again.
                await self._canal.server.rediscover()
            else:
                return

    async def _strike(self) -> None:
        worker = self._dice.choice(self._alive)
        match self._dice.choice(["kill", "freeze", "thaw", "thaw", "drain", "cut", "nothing", "nothing"]):
            case "kill":
                worker.kill()
                self._replace(worker)
            case "freeze":
                worker.signal(signal.SIGSTOP)
            case "thaw":
                self._thaw()
            case "drain":
                worker.signal(signal.SIGCONT)
                worker.terminate()
                assert worker.wait_ended() == 0
                self._replace(worker)
            case "cut":
                key = self._canal.keys.partition(self._dice.randrange(PARTITIONS)).stats
                with contextlib.suppress(ServerUnavailableError):
                    await self._canal.command(key, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def _thaw(self) -> None:
        for worker in self._alive:
            worker.signal(signal.SIGCONT)
            assert worker.exit_code is None

    def _replace(self, worker: WorkerProcess) -> None:
        self._alive.remove(worker)
        self._start()

    def _start(self) -> None:
        contract: BranchContract = self._canal.contract(
            function="streams.ordered_effects:act",
            ordering=Ordering.KEY,
            concurrency=4,
            claim_after_seconds=1,
            retry=RETRY,
        )
        self._alive.append(self._workers.start(contract))
