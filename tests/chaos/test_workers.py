"""Workers killed, frozen and cut off at random while events come in: every event has one whole record in the end."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from headgate.contract import JoinContract, RetryContract
from headgate.event import Lane, NewEvent
from headgate.join import read_records
from headgate.streams import Server, ServerUnavailableError, ensure_groups
from streams.desk import Desk, desk
from streams.servers import SERVERS
from streams.workers import WorkerProcess, Workers, workers_in

if TYPE_CHECKING:
    from pathlib import Path

BRANCHES = ("a", "b")
JOIN = JoinContract(branches=BRANCHES, timeout_seconds=3600)
SECONDS = 8.0
# Nothing here fails by its own fault: whatever ends in a dead letter was lost by us.
RETRY = RetryContract(max_attempts=100, initial_seconds=0.05, factor=1, max_seconds=0.05)


@pytest.mark.parametrize("kind", SERVERS)
async def test_whatever_happens_to_workers_every_event_has_one_whole_record(
    kind: str, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    dice = random.Random(seed)
    with SERVERS[kind]() as url, workers_in(tmp_path, url) as workers:
        server = Server.connect(url)
        async with desk(server, BRANCHES, partitions=3, join=JOIN) as canal:
            published = await storm(canal, workers, dice)
            for branch in BRANCHES:
                figures = await canal.settled(branch, published)
                assert (figures.done, figures.dead) == (published, 0), f"branch {branch}, seed {seed}"
            records = await read_records(server, canal.keys)
            total = await canal.measured()
            assert (await ensure_groups(server, canal.keys, BRANCHES)).changes == 0
        await server.aclose()
    assert sorted(record.id for record in records) == sorted(f"e{n}" for n in range(published)), seed
    assert all(record.results == dict.fromkeys(BRANCHES, int(record.id[1:])) for record in records), seed
    assert (total.joined, total.partial, total.late, total.open_joins) == (published, 0, 0, 0), seed


class Storm:
    """Workers of both branches, and what may happen to them."""

    def __init__(self, canal: Desk, workers: Workers, dice: random.Random) -> None:
        self._canal = canal
        self._workers = workers
        self._dice = dice
        self._alive: list[tuple[WorkerProcess, str]] = []
        for branch in BRANCHES * 2:
            self._start(branch)

    async def strike(self) -> None:
        """Does something to a worker, or to the connections of all."""
        worker, branch = self._dice.choice(self._alive)
        match self._dice.choice(["kill", "freeze", "thaw", "drain", "cut", "nothing", "nothing"]):
            case "kill":
                worker.kill()
                self._replace(worker, branch)
            case "freeze":
                worker.signal(signal.SIGSTOP)
            case "thaw":
                self.thaw()
            case "drain":
                worker.signal(signal.SIGCONT)
                worker.terminate()
                assert worker.wait_ended() == 0
                self._replace(worker, branch)
            case "cut":
                key = self._canal.keys.partition(self._dice.randrange(3)).stats
                with contextlib.suppress(ServerUnavailableError):
                    await self._canal.command(key, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def thaw(self) -> None:
        """Lets every frozen worker go on."""
        for worker, _ in self._alive:
            worker.signal(signal.SIGCONT)
            assert worker.exit_code is None

    def _replace(self, worker: WorkerProcess, branch: str) -> None:
        self._alive.remove((worker, branch))
        self._start(branch)

    def _start(self, branch: str) -> None:
        contract = self._canal.contract(branch, concurrency=4, claim_after_seconds=1, retry=RETRY)
        self._alive.append((self._workers.start(contract), branch))


async def storm(canal: Desk, workers: Workers, dice: random.Random) -> int:
    """Publishes for a while, and meanwhile does to workers what it can; gives the number of events."""
    published = 0
    storm = Storm(canal, workers, dice)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        events = []
        for number in range(published, published + dice.randrange(1, 60)):
            data = {"do": dice.choice(["return", "fail-once"]), "result": number}
            events.append(NewEvent(id=f"e{number}", data=data, lane=dice.choice(list(Lane))))
        while True:
            try:
                await canal.publish(*events)
                break
            except ServerUnavailableError:
                await (
                    canal.server.rediscover()
                )  # our own connections were cut: the same ids may be published again
        published += len(events)
        await storm.strike()
    storm.thaw()
    await canal.server.rediscover()
    return published
