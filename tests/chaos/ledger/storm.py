"""Strikes carried out: worker processes killed, paused, drained and started again, connections cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from chaos.ledger.canal import CLAIM_SECONDS, KEYS, contract
from chaos.ledger.plan import BRANCHES, Strike, strikes
from chaos.ledger.worker import WorkerProcess
from headgate.streams import Server, StreamsError
from headgate.worker.ending import end

if TYPE_CHECKING:
    from pathlib import Path

TICK_SECONDS = 0.5
WORKERS_A_BRANCH = 2
# One that is told to stop while it still starts ends as the signal has it.
_DRAINED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


class Crew:
    """The workers of all branches, one a slot; a slot keeps its worker's name, as a pod's container does."""

    def __init__(self, folder: Path, url: str) -> None:
        self.crashes: list[str] = []
        self._folder = folder
        self._url = url
        self._slots = [(branch, number) for number in range(WORKERS_A_BRANCH) for branch in BRANCHES]
        self._alive = [self._start(slot) for slot in range(len(self._slots))]
        self._paused: dict[int, WorkerProcess] = {}
        self._draining: set[int] = set()

    def __len__(self) -> int:
        return len(self._slots)

    def kill(self, slot: int) -> None:
        """SIGKILL to the worker, and another in its place."""
        self._alive[slot].kill()
        self._replace(slot)

    def pause(self, slot: int) -> WorkerProcess:
        """SIGSTOP; gives the worker that is to go on later."""
        worker = self._paused[slot] = self._alive[slot]
        worker.signal(signal.SIGSTOP)
        return worker

    def resume(self, slot: int, worker: WorkerProcess) -> None:
        """SIGCONT, if that worker is still paused."""
        if self._paused.get(slot) is worker:
            del self._paused[slot]
            worker.signal(signal.SIGCONT)

    def drain(self, slot: int) -> None:
        """SIGTERM; `tend` puts another in its place when it is through."""
        if slot not in self._draining:
            self._draining.add(slot)
            self._alive[slot].signal(signal.SIGTERM)

    def tend(self) -> None:
        """Replaces workers that ended. One that was not asked to, or did not end well, is a crash."""
        for slot, worker in enumerate(self._alive):
            code = worker.exit_code
            if code is not None:
                if slot not in self._draining or code not in _DRAINED:
                    self._crashed(worker, f"ended with {code}")
                self._replace(slot)

    def rest(self) -> None:
        """Lets all that are paused go on."""
        for slot, worker in list(self._paused.items()):
            self.resume(slot, worker)

    async def dismiss(self) -> None:
        """SIGTERM to all; returns when they are gone. Who does not end with 0 is a crash."""
        for slot in range(len(self)):
            self.drain(slot)
        for worker in self._alive:
            code = await asyncio.to_thread(worker.wait_ended)
            if code is None:
                self._crashed(worker, f"did not end when told to ({worker.state})")
            elif code not in _DRAINED:
                self._crashed(worker, f"ended with {code}")

    def end(self) -> None:
        """SIGKILL to all: none outlives the run."""
        for worker in self._alive:
            worker.kill()

    def _crashed(self, worker: WorkerProcess, how: str) -> None:
        lines = [line for line in worker.log().splitlines() if "event.retried" not in line]
        self.crashes.append("\n".join([f"{worker.name} {how}; its last words:", *lines[-12:]]))

    def _replace(self, slot: int) -> None:
        self._paused.pop(slot, None)
        self._draining.discard(slot)
        self._alive[slot] = self._start(slot)

    def _start(self, slot: int) -> WorkerProcess:
        branch, number = self._slots[slot]
        return WorkerProcess(self._folder, self._url, contract(branch), f"{branch}-{number}")


class Storm:
    """Strikes a crew, tick by tick, until it is told to end. `struck` counts by kind; cuts count connections."""

    def __init__(self, crew: Crew, url: str, seed: str) -> None:
        self.struck: Counter[str] = Counter()
        self._crew = crew
        self._server = Server.connect(url)
        self._plan = strikes(seed, len(crew), TICK_SECONDS, CLAIM_SECONDS)
        self._dice = random.Random(f"cuts/{seed}")
        self._cutting: set[asyncio.Task[None]] = set()

    async def rage(self) -> None:
        """Strikes until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for blows in self._plan:
            await asyncio.sleep(max(0.0, due - loop.time()))
            # A tick that came late is made up for; what the seed says is their order.
            due = max(due, loop.time() - 1) + TICK_SECONDS
            self._crew.tend()
            for blow in blows:
                self._strike(blow)

    async def aclose(self) -> None:
        """Ends what it still cuts, and closes its own connection."""
        await end(self._cutting)
        await self._server.aclose()

    def _strike(self, blow: Strike) -> None:
        match blow.kind:
            case "cut":
                # Beside the ticks: a server that is just being restarted may take its time to answer.
                self._cutting.add(task := asyncio.create_task(self._cut(blow.share)))
                task.add_done_callback(self._cutting.discard)
                return
            case "kill":
                self._crew.kill(blow.slot)
            case "drain":
                self._crew.drain(blow.slot)
            case "pause":
                worker = self._crew.pause(blow.slot)
                asyncio.get_running_loop().call_later(blow.seconds, self._crew.resume, blow.slot, worker)
        self.struck[blow.kind] += 1

    async def _cut(self, share: float) -> None:
        """Cuts a share of the connections to every node, the publisher's too."""
        with contextlib.suppress(StreamsError):
            for key in {partition.stats for partition in KEYS.all}:
                clients: Any = await self._server.execute(key, "CLIENT", "LIST", "TYPE", "normal")
                ids = [line.split(" ", 1)[0].removeprefix("id=") for line in _text(clients).splitlines()]
                for each in sorted(ids, key=int):
                    if self._dice.random() < share:
                        self.struck["cut"] += int(
                            await self._server.execute(key, "CLIENT", "KILL", "ID", each)
                        )


def _text(reply: Any) -> str:
    if isinstance(reply, list):  # the client library parses it
        return "\n".join(f"id={each['id']} " for each in reply)
    return reply.decode() if isinstance(reply, bytes) else str(reply)
