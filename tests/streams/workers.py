"""Worker processes as the control plane starts them, to be stopped, killed and frozen by tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.contract import BranchContract

PATIENCE_SECONDS = 30.0
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Effect:
    """One line that a handler wrote."""

    what: str
    event: str
    attempt: int
    pid: int
    lane: str


@dataclass
class Workers:
    """Starts workers that share one file of effects; ends them all when left."""

    folder: Path
    url: str
    started: list[WorkerProcess] = field(default_factory=list)

    def start(self, contract: BranchContract, wait_for: str = "worker.enlisted") -> WorkerProcess:
        """A worker of a branch that has said a word; by then it is ready to read."""
        worker = WorkerProcess(self, contract, f"w{len(self.started) + 1}")
        self.started.append(worker)
        worker.wait_for(wait_for)
        return worker

    @property
    def effects_path(self) -> Path:
        """Where handlers write what they do."""
        return self.folder / "effects"

    def release(self) -> None:
        """Lets handlers that hold go on."""
        (self.folder / "effects.release").touch()

    def effects(self, what: str | None = None) -> list[Effect]:
        """What handlers did so far."""
        if not self.effects_path.exists():
            return []
        rows = [line.split() for line in self.effects_path.read_text().splitlines()]
        return [
            Effect(kind, event, int(attempt), int(pid), lane)
            for kind, event, attempt, pid, lane in rows
            if what in (None, kind)
        ]

    def count(self, what: str) -> Counter[str]:
        """How often each event's handler did something."""
        return Counter(effect.event for effect in self.effects(what))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Waits until a condition holds; fails with the workers' logs."""
        wait_until(condition, what, lambda: "\n".join(worker.log()[-3000:] for worker in self.started))


class WorkerProcess:
    """One worker in a process group of its own."""

    def __init__(self, workers: Workers, contract: BranchContract, name: str) -> None:
        self.name = name
        self._log = workers.folder / f"{name}.log"
        environment = os.environ | {
            "HEADGATE_CONTRACT": contract.encode(),
            "HEADGATE_REDIS_URL": workers.url,
            "HEADGATE_CONSUMER": name,
            "HEADGATE_HTTP_PORT": "0",
            "HEADGATE_EFFECTS": str(workers.effects_path),
            "PYTHONPATH": str(TESTS),
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("headgate")), "worker"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def port(self) -> int:
        """Where it serves HTTP."""
        self.wait_for("worker.serving")
        found = re.search(r'"port": (\d+)', self.log())
        assert found is not None
        return int(found[1])

    def log(self) -> str:
        """All it said so far."""
        return self._log.read_text(errors="replace")

    def said(self, word: str) -> int:
        """How often it said a word."""
        return self.log().count(word)

    def wait_for(self, word: str, times: int = 1) -> None:
        """Waits until it said a word so often."""

        def enough() -> bool:
            ended = self._process.poll()
            if self.said(word) >= times:
                return True
            assert ended is None, f"worker {self.name} ended with {ended}: {self.log()[-3000:]}"
            return False

        wait_until(enough, f"{word!r} in the log of {self.name}", lambda: self.log()[-3000:])

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it and all its children at once, without a word, and waits until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> None:
        """Asks it to drain."""
        self.signal(signal.SIGTERM)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def wait_ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Waits for its end; gives its exit code."""
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"worker {self.name} did not end in {seconds} s: {self.log()[-3000:]}"
            ) from None


def wait_until(
    condition: Callable[[], object],
    what: str,
    evidence: Callable[[], str] = lambda: "",
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Waits until a condition holds; fails saying what did not come, with evidence."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}\n{evidence()}")
        time.sleep(0.02)


@contextlib.contextmanager
def workers_in(folder: Path, url: str) -> Iterator[Workers]:
    """Workers on a server; none outlives it."""
    workers = Workers(folder, url)
    try:
        yield workers
    finally:
        for worker in workers.started:
            worker.kill()
