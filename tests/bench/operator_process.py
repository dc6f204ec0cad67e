"""The operator as a process of its own, watched from outside: its memory, its time on a core, what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HEADGATE = str(Path(sys.executable).with_name("headgate"))
START_SECONDS = 60.0


class OperatorProcess:
    """`headgate operator` on a kubeconfig; its log is `log`. Raises RuntimeError when it does not come up."""

    def __init__(self, kubeconfig: Path, redis_url: str, log: Path) -> None:
        self.log = log
        self._out: IO[bytes] = log.open("wb")
        env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "HEADGATE_REDIS_URL": redis_url,
            "HEADGATE_WORKER_IMAGE": "headgate/worker:dev",
        }
        self.process = subprocess.Popen(
            [HEADGATE, "operator", "--metrics-port", "0", "--health-port", "0"],
            env=env,
            stdout=self._out,
            stderr=self._out,
            stdin=subprocess.DEVNULL,
        )

    def said(self, event: str) -> dict[str, object] | None:
        """The first line of its log with this event; None as long as there is none."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and (entry := json.loads(line)).get("event") == event:
                return dict(entry)
        return None

    def await_said(self, event: str) -> dict[str, object]:
        """Waits for a line of its log."""
        return _eventually(lambda: self._alive() and self.said(event), f"the operator to say {event!r}")

    def metrics(self) -> dict[str, float]:
        """All samples of its metrics, by name and labels as they stand in the text."""
        port = self.await_said("serving")["metrics_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {sample: float(value) for sample, _, value in samples}

    def cpu_seconds(self) -> float:
        """Time on a core so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Most memory it ever had resident, in 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6

    def kill(self) -> float:
        """Ends it at once, as a node that dies does; gives the monotonic time of it."""
        self.process.kill()
        at = time.monotonic()
        self.process.wait()
        self._out.close()
        return at

    def stop(self) -> None:
        """Asks it to stop; kills it when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()

    def _alive(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator ended; its log ends with: {self.log.read_text()[-2000:]}")
        return True


def _eventually(ask: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.05)
    raise RuntimeError(f"waited {START_SECONDS:.0f} s for {what}")
