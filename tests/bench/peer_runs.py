"""What the peers settle: each one's own worker, one process, in the same round and on the same kind of server as ours.

A peer's queue is filled by its own client, then its own command is started on it, as its documentation says it goes
fastest (the modules in `peers` say how). The rate is that between two looks at the count of handled events, after the
first twentieth and before the last was seen, as for our worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import InvalidRunError, warm_part
from bench.processes import running
from streams.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "hack/bench-peers"
INSTALL_SECONDS = 300.0
ENQUEUE_SECONDS = 60.0
CONSUME_SECONDS = 60.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Peer:
    """A peer: its command in its environment, and so many events that it is busy for two or three seconds."""

    name: str
    package: str
    events: int
    command: str
    environment: str = "requirements"
    is_batch: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module's name in the folder `peers`."""
        return self.package.removesuffix("-redis")


PEERS = (
    Peer(
        "dramatiq",
        "dramatiq",
        10_000,
        "dramatiq bench.peers.dramatiq --processes=1 --threads=8",
        settings={"dramatiq_queue_prefetch": "100"},
    ),
    Peer("faststream", "faststream", 8000, "faststream run bench.peers.faststream:app"),
    Peer(
        "faststreamBatch", "faststream", 100_000, "faststream run bench.peers.faststream:app", is_batch=True
    ),
    Peer(
        "taskiq",
        "taskiq-redis",
        6000,
        "taskiq worker bench.peers.taskiq:broker --workers=1 --max-prefetch=100 --no-parse",
    ),
    Peer("arq", "arq", 3000, "arq bench.peers.arq.WorkerSettings", environment="arq"),
    Peer("saq", "saq", 3000, "saq bench.peers.saq.settings", environment="saq"),
    Peer(
        "celery",
        "celery",
        2500,
        "celery -A bench.peers.celery:app worker --pool=solo --without-gossip --without-mingle"
        " --without-heartbeat --loglevel=ERROR",
    ),
    Peer("streaq", "streaq", 2500, "streaq run bench.peers.streaq:worker"),
    Peer("rq", "rq", 700, "rq worker --worker-class=rq.SimpleWorker --quiet --disable-job-desc-logging"),
)


def install_peers() -> Path:
    """Installs the peers where they are not yet; gives the folder of their environments. Raises InvalidRunError."""
    remedy = "--no-peers leaves them out"
    try:
        done = subprocess.run(
            [str(INSTALL)], stdout=subprocess.PIPE, text=True, check=False, timeout=INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidRunError(f"the peers are not installed after {INSTALL_SECONDS:g} s; {remedy}") from error
    if done.returncode != 0:
        raise InvalidRunError(f"the peers could not be installed; {remedy}")
    return Path(done.stdout.strip())


def versions() -> dict[str, str]:
    """The version of each peer's package, from the lock files."""
    locks = "\n".join(lock.read_text() for lock in sorted((Path(__file__).parent / "peers").glob("*.lock")))
    wanted = {peer.package for peer in PEERS}
    return {
        name: version
        for name, version in re.findall(r"^([a-z-]+)==([^ ;]+)", locks, re.MULTILINE)
        if name in wanted
    }


async def peer_rate(peer: Peer, environments: Path, folder: Path, server: str) -> float:
    """Events a second one process of the peer handles, on a server of its own. Raises InvalidRunError."""
    count, log = folder / f"{peer.name}.count", folder / f"{peer.name}.log"
    count.write_bytes(bytes(8))
    programs = environments / peer.environment / "bin"
    with SERVERS[server]() as url:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "tests"),
            "HEADGATE_BENCH_URL": url,
            "HEADGATE_BENCH_COUNT": str(count),
            "HEADGATE_BENCH_MODE": "batch" if peer.is_batch else "single",
            "RQ_REDIS_URL": url,
            **peer.settings,
        }
        fill = [str(programs / "python"), "-m", "bench.peers.enqueue", peer.module, str(peer.events)]
        with running(fill, environment, folder, log) as filling:
            status = await _ended(filling, ENQUEUE_SECONDS)
        if status != 0:
            raise InvalidRunError(
                f"{peer.name}: filling its queue: exit code {status} after at most {ENQUEUE_SECONDS:g} s: {end_of(log)}"
            )
        program, *arguments = peer.command.split()
        with running([str(programs / program), *arguments], environment, folder, log) as worker:
            seen = await _watch(peer, count, worker, log)
    events, seconds = warm_part(seen)
    return events / seconds


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """A process's exit code, None when it has none after so many seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return await asyncio.to_thread(process.wait, seconds)
    return None


async def _watch(
    peer: Peer, count: Path, worker: subprocess.Popen[bytes], log: Path
) -> list[tuple[int, int]]:
    """Looks at the count until all are handled; the looks on the way: this machine's clock in ms, events handled."""
    deadline = time.monotonic() + CONSUME_SECONDS
    seen: list[tuple[int, int]] = []
    while True:
        handled = _read(count)
        seen.append((int(time.monotonic() * 1000), handled))
        # More than all: it handled one twice, as SAQ does on a busy machine, and nobody promised it would not.
        if handled >= peer.events:
            return seen
        if worker.poll() is not None:
            raise InvalidRunError(f"{peer.name}: its worker ended with {worker.returncode}: {end_of(log)}")
        if time.monotonic() > deadline:
            raise InvalidRunError(
                f"{peer.name}: {handled} of {peer.events} handled after {CONSUME_SECONDS} s: {end_of(log)}"
            )
        await asyncio.sleep(LOOK_SECONDS)


def _read(count: Path) -> int:
    [handled] = struct.unpack("q", count.read_bytes())
    return int(handled)


def end_of(log: Path) -> str:
    """The end of what a process said."""
    return log.read_text(errors="replace")[-2000:]
