"""Worker processes of the ledger: `headgate worker`, forked from a process that has imported it already.

Starting a worker from nothing costs 0.4 s of a processor, mostly for imports; at two kills a second that would leave
little to kill. A forked one runs the same command in a process of its own 20 ms later.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.contract import BranchContract

END_SECONDS = 30.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["headgate_cli.main", "headgate.worker.main", "chaos.ledger.handlers"])


class WorkerProcess:
    """One worker in a process group of its own; what it says is appended to its log."""

    def __init__(self, folder: Path, url: str, contract: BranchContract, name: str) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        environment = {
            "HEADGATE_CONTRACT": contract.encode(),
            "HEADGATE_REDIS_URL": url,
            "HEADGATE_CONSUMER": name,
            "HEADGATE_HTTP_PORT": "-1",
        }
        self._process = _FORKS.Process(target=_work, args=(str(self._log), environment), name=name)
        self._process.start()

    @property
    def exit_code(self) -> int | None:
        """How it ended, -N for signal N; None while it runs."""
        return self._process.exitcode

    def log(self) -> str:
        """All that workers of this name said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def signal(self, number: int) -> None:
        """Sends it a signal, if it is still there."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Ends it at once, without a word, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.join()

    def wait_ended(self) -> int | None:
        """Its exit code when it has ended, or None when it does not for END_SECONDS: then its log says where it is."""
        self._process.join(END_SECONDS)
        if self.exit_code is None:
            self.signal(signal.SIGUSR1)
            self._process.join(1)
        return self.exit_code

    @property
    def state(self) -> str:
        """What the kernel says of it: its state (T: stopped) and the processor time it took."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (
                f"state {fields[0]}, {(int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'):.1f} s"
            )
        return "gone"


def _work(log: str, environment: dict[str, str]) -> None:
    from headgate_cli.main import main  # noqa: PLC0415 - in the worker's process, where it is there already

    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.update(environment)
    faulthandler.register(signal.SIGUSR1)
    sys.argv = ["headgate", "worker"]
    main()
