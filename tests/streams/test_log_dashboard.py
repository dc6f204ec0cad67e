"""The log example with real servers: a real Prometheus gets the exact sums, and old minutes go without harm."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import random
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headgate.streams import PipelineKeys, ensure_groups, read_counts
from proofs.local import on_this_machine
from streams.prometheus import prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate import NewEvent
    from streams.prometheus import Prometheus

EXAMPLE = Path(__file__).parents[2] / "examples" / "log-dashboard"
DATA_SECONDS = 60.0
PRODUCERS, EVENTS = 100, 20


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(EXAMPLE)
    yield
    for name in ("logs", "load", "exporter", "forget"):
        sys.modules.pop(name, None)


async def test_prometheus_gets_the_exact_sums_for_every_panel():
    load = importlib.import_module("load")
    end_ms = int(time.time() * 1000)
    events = [
        event
        for number in range(PRODUCERS)
        for event in load.producer_events("panels", number, EVENTS, end_ms)
    ]
    async with on_this_machine("log-dashboard", random.Random(0)) as stage:
        await stage.apply()
        asked = ("--producers", f"{PRODUCERS}", "--events", f"{EVENTS}", "--end-ms", f"{end_ms}")
        await stage.load(*asked, "--seed", "panels")
        await stage.settled()
        with exported(stage.url) as discovery, prometheus(discovery) as scraped:
            for title, expected in sums(events).items():
                found = await asyncio.to_thread(wait_for_data, scraped, queries()[title], expected)
                assert found == expected, title
            for title in queries().keys() - sums(events).keys():
                assert await asyncio.to_thread(wait_for_data, scraped, queries()[title], None), title


async def test_counters_of_old_minutes_are_removed_and_no_other(server):
    keys = PipelineKeys("default", "log-dashboard", 2)
    await ensure_groups(server, keys, ["tally", "latest"])
    minute, now = importlib.import_module("logs").minute, int(time.time() // 60)

    def name(minutes_ago: int) -> str:
        return f"{datetime.fromtimestamp((now - minutes_ago) * 60, UTC):%Y-%m-%dT%H:%MZ} web info"

    oldest_counted = f"{minute((now - 360) * 60_000, now)} web info"
    kept = [name(0), name(418), oldest_counted, "total web info", "astray web info", "#other web info"]
    for partition in keys.all:
        for each in (*kept, name(422), name(60 * 24)):
            await server.execute(partition.counts, "HSET", partition.counts, each, 3)

    assert await forget(server.url) == "2 counters of minutes before"
    assert await read_counts(server, keys) == dict.fromkeys(sorted(kept), 6)
    assert await forget(server.url) == "0 counters of minutes before"


async def forget(url: str) -> str:
    command = (sys.executable, str(EXAMPLE / "forget.py"), "--redis-url", url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode().rpartition(" 20")[0]


def sums(events: list[NewEvent]) -> dict[str, dict[str, float]]:
    """What the panels must show, by title and label's value, counted from what was published."""
    lines = [event.data for event in events if "level" in event.data]
    errors = [line for line in lines if line["level"] == "error"]
    gauges = {event.key: event.data["value"] for event in events if "level" not in event.data}
    longest = dict(sorted(gauges.items(), key=lambda pair: -pair[1])[:10])

    def by_minute(chosen: list[dict]) -> dict[str, float]:
        return Counter(
            f"{datetime.fromtimestamp(line['time'] // 1000, UTC):%Y-%m-%dT%H:%MZ}" for line in chosen
        )

    return {
        "Lines": {"": len(lines)},
        "Errors": {"": len(errors)},
        "Astray": {"": 0},
        "Lines by the minute they were written": by_minute(lines),
        "Errors by the minute they were written": by_minute(errors),
        "Services with the most errors": Counter(line["service"] for line in errors),
        "Longest queues": {key.partition("/")[0]: value for key, value in longest.items()},
    }


def queries() -> dict[str, str]:
    """Each panel's query, by its title."""
    dashboard = json.loads((EXAMPLE / "dashboard.json").read_text(encoding="utf-8"))
    return {panel["title"]: panel["targets"][0]["expr"] for panel in dashboard["panels"]}


def wait_for_data(
    scraped: Prometheus, expression: str, expected: dict[str, float] | None
) -> dict[str, float]:
    """What the expression gives, by its one label: once that is as expected, or anything at all, or time is up."""
    deadline = time.monotonic() + DATA_SECONDS
    while True:
        found = {
            next(
                (labels[name] for name in ("minute", "service", "source", "level") if name in labels), ""
            ): value
            for labels, value in scraped.query(expression.replace("$__rate_interval", "10s"))
        }
        if (found and (expected is None or found == expected)) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@contextlib.contextmanager
def exported(url: str) -> Iterator[str]:
    """Runs the exporter; gives a URL of service discovery that lists it."""
    exporter = importlib.import_module("exporter")
    scraped = exporter.serve(exporter.Sums(url, "default", 15), 0)
    listed = json.dumps([{"targets": [f"127.0.0.1:{scraped.server_port}"], "labels": {}}]).encode()

    class Discovery(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(listed)

        def log_message(self, *_arguments):
            """Asked every second."""

    discovery = ThreadingHTTPServer(("127.0.0.1", 0), Discovery)
    with scraped, discovery:
        for server in (scraped, discovery):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{discovery.server_port}/"
        finally:
            for server in (scraped, discovery):
                server.shutdown()
