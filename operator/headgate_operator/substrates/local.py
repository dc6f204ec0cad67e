"""Workers as processes of this machine: what `headgate run` and most tests use instead of a cluster.

A worker that ends by itself is started again with back-off, and its lease is ended so that others take its events at
once. Every worker leads a process group of its own, so that a Ctrl-C in the terminal does not reach it, and watches
a pipe that closes when this process dies: however that happens, no worker outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from headgate.streams import retire
from headgate_operator.contracts import NOWHERE
from headgate_operator.substrates import Workers
from headgate_operator.substrates.slot import NO_PORT, Failing, Slot, free_port, kill_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from headgate.contract import BranchContract
    from headgate.streams import PipelineKeys, Server
    from headgate_operator.contracts import Place
    from headgate_operator.pipeline import Pipeline

# -P: handlers come from the manifest's folder, not from wherever the command was called.
COMMAND = (sys.executable, "-P", "-m", "headgate_cli.main", "worker")
FIRST_BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 30.0
STEADY_SECONDS = 30.0  # a worker that ran this long has not failed to start
KILL_AFTER_SECONDS = 5.0  # beyond the contract's own time to drain

log = structlog.get_logger()


class LocalSubstrate:
    """Worker processes that use `server`, find handlers in `folder` and write to `logs`.

    A log is named <pipeline>.<branch>-<n>.log. With `http` each worker serves its metrics on a free port of this
    machine; `addresses` says which. `places` says by pipeline (namespace/name) and branch what its workers find here
    and no manifest can say.
    """

    def __init__(
        self,
        server: Server,
        folder: Path,
        logs: Path,
        *,
        http: bool = False,
        places: Mapping[tuple[str, str], Place] | None = None,
    ) -> None:
        self._server = server
        self._folder = folder
        self._logs = logs
        self._http = http
        self._places = places or {}
        self._contracts: dict[tuple[PipelineKeys, str], BranchContract] = {}
        self._slots: list[Slot] = []
        self._restarts: Counter[tuple[PipelineKeys, str]] = Counter()
        self._lifeline, self._held_open = os.pipe()

    async def apply(self, pipeline: Pipeline) -> int:
        """Workers of a branch that changed are replaced; those of one that is gone are stopped, unless it drains."""
        self._logs.mkdir(parents=True, exist_ok=True)
        wanted = {
            (pipeline.keys, name): pipeline.contract(name, self._places.get((str(pipeline), name), NOWHERE))
            for name in pipeline.branch_names
        }
        known = {key: old for key, old in self._contracts.items() if _is_of(key[0], pipeline)}
        changed = [
            key
            for key in known.keys() | wanted.keys()
            if known.get(key) != wanted.get(key) and (key in wanted or not pipeline.drains(key[1]))
        ]
        for key in changed:
            running = [slot for slot in self._active(pipeline, key[1]) if slot.contract != wanted.get(key)]
            for slot in running:
                slot.stop.set()
            self._contracts.pop(key, None)
            if key in wanted:
                self._contracts[key] = wanted[key]
                for _ in running:
                    self._start(pipeline, key[1])
        return len(changed)

    async def observe(self, pipeline: Pipeline) -> dict[str, Workers]:
        """A worker is ready when it holds a lease, that is from its first registration with the server on."""
        found = {}
        for branch in (*pipeline.branch_names, *(pipeline.draining or ())):
            active = list(self._active(pipeline, branch))
            running = {slot.name for slot in active if slot.process is not None}
            ready = 0
            if running:
                beats = pipeline.keys.partition(0).beats(branch)
                leases = await self._server.execute(beats, "ZRANGE", beats, 0, -1)
                holders = {lease.decode().rpartition(".")[0] for lease in leases}
                ready = len(holders & running)
            restarts = self._restarts[pipeline.keys, branch]
            found[branch] = Workers(len(active), len(running), ready, restarts=restarts)
        return found

    async def scale(self, pipeline: Pipeline, branch: str, replicas: int, holding: Mapping[str, int]) -> None:
        """Starts workers at once; those that are to go drain in the background, the idle ones first."""
        active = list(self._active(pipeline, branch))
        for _ in range(replicas - len(active)):
            self._start(pipeline, branch)
        if replicas < len(active):
            idle_first = sorted(active, key=lambda slot: (holding.get(slot.name, 0), -slot.number))
            for slot in idle_first[: len(active) - replicas]:
                slot.stop.set()

    async def price(self, _pipeline: Pipeline, _branch: str, _holding: Mapping[str, int]) -> None:
        """Nothing: nobody else scales workers here."""

    async def remove(self, pipeline: Pipeline) -> None:
        """Drains all workers of the pipeline and returns when the last is gone."""
        going = [slot for slot in self._slots if _is_of(slot.keys, pipeline)]
        for slot in going:
            slot.stop.set()
        await asyncio.gather(*(slot.task for slot in going if slot.task is not None))
        self._contracts = {key: c for key, c in self._contracts.items() if not _is_of(key[0], pipeline)}

    def kill(self) -> None:
        """Kills every worker now, in the middle of what it does."""
        for slot in self._slots:
            slot.stop.set()
            if slot.process is not None:
                kill_group(slot.process)

    def addresses(self) -> list[str]:
        """Host and port of each running worker's metrics; empty without `http`."""
        return [f"127.0.0.1:{slot.http_port}" for slot in list(self._slots) if slot.http_port != NO_PORT]

    def failing(self) -> list[Failing]:
        """Branches with workers that keep ending by themselves, the worst of each."""
        worst: dict[tuple[str, str], Slot] = {}
        for slot in self._slots:
            branch = slot.pipeline, slot.contract.branch
            if slot.failures > (worst[branch].failures if branch in worst else 0):
                worst[branch] = slot
        return [
            Failing(*branch, slot.failures, slot.is_hopeless, slot.last_words, slot.log)
            for branch, slot in worst.items()
        ]

    def _active(self, pipeline: Pipeline, branch: str) -> Iterator[Slot]:
        for slot in self._slots:
            if _is_of(slot.keys, pipeline) and slot.contract.branch == branch and not slot.stop.is_set():
                yield slot

    def _start(self, pipeline: Pipeline, branch: str) -> None:
        place = f"{pipeline.name}.{branch}"
        taken = {slot.log for slot in self._slots}
        numbers = range(len(taken) + 1)
        number, path = next((n, p) for n in numbers if (p := self._logs / f"{place}-{n}.log") not in taken)
        contract = self._contracts[pipeline.keys, branch]
        slot = Slot(pipeline.keys, contract, number, path)
        self._slots.append(slot)
        slot.task = asyncio.create_task(self._keep(slot))

    async def _keep(self, slot: Slot) -> None:
        try:
            while not slot.stop.is_set():
                started = time.monotonic()
                slot.status = await self._run(slot)
                if slot.stop.is_set():
                    if slot.status:  # it died while it drained: others take at once what it held
                        await self._retire(slot)
                    return
                # Whoever kills a worker (a user, the kernel) does not say that it fails to start.
                is_killed = slot.status == -signal.SIGKILL
                steady = is_killed or time.monotonic() - started >= STEADY_SECONDS
                slot.failures = 1 if steady else slot.failures + 1
                self._restarts[slot.keys, slot.contract.branch] += 1
                slot.last_words = slot.read_last_words()
                pause = min(LONGEST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2 ** (slot.failures - 1))
                log.warning(
                    "worker ended by itself",
                    pipeline=slot.pipeline,
                    worker=slot.name,
                    status=slot.status,
                    said=slot.last_words,
                    restart_in_seconds=pause,
                )
                await self._retire(slot)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await slot.stop.wait()
        finally:
            self._slots.remove(slot)

    async def _run(self, slot: Slot) -> int:
        """Runs one process to its end, or until the slot is to stop; returns its exit status."""
        port = free_port() if self._http else NO_PORT
        environment = os.environ | {
            "HEADGATE_CONTRACT": slot.contract.encode(),
            "HEADGATE_REDIS_URL": self._server.url,
            "HEADGATE_CONSUMER": slot.name,
            "HEADGATE_HTTP_PORT": str(port),
            "HEADGATE_LIFELINE": str(self._lifeline),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self._folder), os.environ.get("PYTHONPATH")))),
        }
        with slot.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(self._lifeline,),
            )
        slot.process, slot.http_port = process, port
        try:
            return await self._until_end(slot, process)
        finally:
            # Whatever ended this: handlers' own processes do not stay behind.
            kill_group(process)
            slot.process, slot.http_port = None, NO_PORT

    async def _until_end(self, slot: Slot, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(slot.stop.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                process.terminate()
                grace = slot.contract.drain_seconds + KILL_AFTER_SECONDS
                await asyncio.wait({ended}, timeout=grace)
                if not ended.done():
                    kill_group(process)
            return await ended
        finally:
            stopping.cancel()

    async def _retire(self, slot: Slot) -> None:
        try:
            await retire(self._server, slot.keys, slot.contract.branch, slot.name)
        except Exception as error:  # noqa: BLE001 - its lease runs out by itself a little later
            log.warning("lease not ended", worker=slot.name, error=str(error))


def _is_of(keys: PipelineKeys, pipeline: Pipeline) -> bool:
    return (keys.namespace, keys.pipeline) == (pipeline.namespace, pipeline.name)
