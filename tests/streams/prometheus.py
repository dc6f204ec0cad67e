"""A real Prometheus on a free loopback port, that scrapes every second what an HTTP service-discovery URL lists."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.servers import ServerMissingError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 30.0
# `refresh_interval` as short as the scrape's, so that a worker that lives for seconds is seen.
CONFIGURATION = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: headgate
  http_sd_configs:
  - {url: "%s", refresh_interval: 1s}
"""


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series an expression gives now: their labels and values; raises urllib's HTTPError when it is wrong."""
        answer = self._get("query", query=expression)
        return [(series["metric"], float(series["value"][1])) for series in answer["result"]]

    def targets(self) -> list[tuple[str, str]]:
        """Address and health of each target."""
        found = self._get("targets", state="active")["activeTargets"]
        return [
            (target["scrapeUrl"], f"{target['health']} {target['lastError']}".strip()) for target in found
        ]

    def _get(self, endpoint: str, **parameters: str) -> dict:
        address = f"{self.url}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
            return json.load(answer)["data"]


@contextlib.contextmanager
def prometheus(discovery_url: str) -> Iterator[Prometheus]:
    """Starts Prometheus on the targets that `discovery_url` lists; stops it when left."""
    binary = shutil.which("prometheus")
    if binary is None:
        raise ServerMissingError("prometheus is not on PATH; Debian: apt-get install prometheus")
    with tempfile.TemporaryDirectory(prefix="headgate-prometheus-") as name:
        folder, port = Path(name), free_port()
        configuration, log = folder / "prometheus.yaml", folder / "log"
        configuration.write_text(CONFIGURATION % discovery_url)
        command = [binary, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
            try:
                _wait_ready(process, port, log)
                yield Prometheus(f"http://127.0.0.1:{port}")
            finally:
                process.terminate()
                process.wait(timeout=20)


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"prometheus is not ready on port {port}: {log.read_text()[-2000:]}")
        time.sleep(0.05)
