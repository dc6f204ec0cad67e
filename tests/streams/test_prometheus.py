"""A real Prometheus scrapes a running pipeline and gets data for every query of the dashboard."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from panels import ROWS
from streams.prometheus import prometheus
from streams.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.prometheus import Prometheus

# One branch that is fine, one that needs a second attempt now and then, one that gives up on some events.
HANDLERS = """\
from headgate import PermanentError

async def fine(event):
    return event.data

def needs_two(event):
    if event.attempt == 1 and event.data["n"] % 10 == 0:
        raise OSError("busy, come again")
    return event.data

async def gives_up(event):
    if event.data["n"] % 50 == 0:
        raise PermanentError("no such thing")
"""
BRANCH = """\
  - name: {name}
    handler: {{python: {{image: none, function: "monitored:{function}"}}}}
    retry: {{maxAttempts: 3, initialSeconds: 1}}
    scale: {{min: 1, max: 1, maxAgeSeconds: 60}}
"""
MANIFEST = (
    """\
apiVersion: headgate.dev/v1alpha1
kind: FanoutPipeline
metadata: {name: monitored}
spec:
  join: {branches: [fine, needs-two, gives-up], timeoutSeconds: 30}
  backpressure:
    levels:
    - {name: Delay, lag: 1000, releaseLag: 500, delay: [Low]}
  branches:
"""
    + BRANCH.format(name="fine", function="fine")
    + BRANCH.format(name="needs-two", function="needs_two")
    + BRANCH.format(name="gives-up", function="gives_up")
)
RATE_PER_SECOND = 100
DATA_SECONDS = 60.0
OPERATOR = "Operator"  # a local run has none; test_reconcile_on_api_server.py asks a real one
STOP_SECONDS = 30.0


@pytest.fixture(scope="module")
def scraped(start_server, tmp_path_factory) -> Iterator[Prometheus]:
    """Prometheus beside a local run that publishes, handles, retries, dead-letters and joins."""
    folder: Path = tmp_path_factory.mktemp("monitored")
    (folder / "monitored.py").write_text(HANDLERS)
    (folder / "pipeline.yaml").write_text(MANIFEST)
    port = free_port()
    command = [str(Path(sys.executable).with_name("headgate")), "run", "pipeline.yaml", "--json"]
    command += ["--redis-url", start_server("redis7"), "--metrics-port", str(port)]
    command += ["--publish", "1000000", "--rate", str(RATE_PER_SECOND)]
    with (folder / "run.log").open("wb") as output:
        run = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            with prometheus(f"http://127.0.0.1:{port}/targets") as started:
                yield started
        finally:
            run.send_signal(signal.SIGINT)
            status = run.wait(timeout=STOP_SECONDS)
    assert status == 0, (folder / "run.log").read_text()[-2000:]


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param(query.expression, id=f"{panel.title} - {query.legend}")
        for row in ROWS
        if row.title != OPERATOR
        for panel in row.panels
        for query in panel.queries
    ],
)
def test_every_query_of_the_dashboard_gets_data(scraped, expression):
    for variable, value in (("$namespace", ".*"), ("$pipeline", "monitored"), ("$__rate_interval", "10s")):
        expression = expression.replace(variable, value)
    assert wait_for_data(scraped, expression), f"no data for {expression}; targets: {scraped.targets()}"


def test_workers_and_pilot_agree_on_what_was_settled(scraped):
    def settled(branch: str) -> tuple[float, float]:
        [(_, of_pilot)] = scraped.query(f'sum(rate(headgate_branch_settled_total{{branch="{branch}"}}[10s]))')
        [(_, of_workers)] = scraped.query(
            f'sum(rate(headgate_worker_events_total{{branch="{branch}",outcome=~"done|dead"}}[10s]))'
        )
        return of_pilot, of_workers

    for branch in ("fine", "needs-two", "gives-up"):
        assert wait_for_data(scraped, f'rate(headgate_worker_events_total{{branch="{branch}"}}[10s])')
        deadline = time.monotonic() + DATA_SECONDS
        while True:
            of_pilot, of_workers = settled(branch)
            if of_pilot == pytest.approx(RATE_PER_SECOND, rel=0.2) == of_workers:
                break
            assert time.monotonic() < deadline, (branch, of_pilot, of_workers)
            time.sleep(0.5)


def wait_for_data(scraped: Prometheus, expression: str) -> bool:
    """Whether the expression gives a number within DATA_SECONDS; asks twice a second."""
    deadline = time.monotonic() + DATA_SECONDS
    while not any(not math.isnan(value) for _, value in scraped.query(expression)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True
