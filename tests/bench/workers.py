"""Real `headgate worker` processes for the benchmarks, started with a contract and stopped by SIGTERM."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.contract import BranchContract

READY_SECONDS = 20.0
STOP_SECONDS = 20.0
COMMAND = [str(Path(sys.executable).with_name("headgate")), "worker"]


class WorkerFailedError(RuntimeError):
    """A worker did not become ready, or did not end with 0 when told to stop; carries the end of its log."""


@dataclass(frozen=True)
class RunningWorker:
    """A worker's process."""

    pid: int

    def peak_memory_mb(self) -> float:
        """The most memory it has held so far (VmHWM: resident, shared libraries included), in MB of a million bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def running_worker(
    url: str, contract: BranchContract, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[RunningWorker]:
    """One worker process, ready when entered, drained when left.

    Handlers are imported from this folder. Raises WorkerFailedError.
    """
    port = free_port()
    log = folder / f"worker-{contract.pipeline}-{contract.branch}.log"
    settings = {
        **os.environ,
        "HEADGATE_CONTRACT": contract.encode(),
        "HEADGATE_REDIS_URL": url,
        "HEADGATE_CONSUMER": f"bench-{contract.branch}",
        "HEADGATE_HTTP_PORT": str(port),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        **(environment or {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(COMMAND, env=settings, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_ready(process, port, log)
            yield RunningWorker(process.pid)
        finally:
            process.terminate()
            try:
                status = process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
    if status != 0:
        raise WorkerFailedError(f"worker of {contract.branch}: ended with {status}: {_end_of(log)}")


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer,
        ):
            if answer.status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise WorkerFailedError(f"worker is not ready on port {port}: {_end_of(log)}")
        time.sleep(0.02)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
