"""What the pipeline counted, as metrics for Prometheus: read from the server at each scrape, so that none is older.

    python examples/log-dashboard/exporter.py --redis-url redis://localhost:6379 --port 9200

Answers 503 with the reason while the server cannot be read: Prometheus then says that the target is down, and no
panel shows old sums as new ones.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from headgate import connect
from headgate.streams import StreamsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

STALE_MS = 15 * 60_000  # a gauge that has said nothing for so long says nothing


@dataclass(frozen=True)
class Sums(Collector):
    """The pipeline's counts and values as metrics; raises StreamsError when they cannot be read.

    A minute is a label, and every value of a label is a series of its own for ever. So only the last `minutes` are
    exported: Prometheus has the older ones from earlier scrapes.
    """

    url: str | None
    namespace: str
    minutes: int

    def collect(self) -> Iterator[Metric]:
        """Reads the server, once a scrape."""
        counts, values = asyncio.run(self._read())
        return metrics(counts, values, self.minutes, datetime.now(UTC))

    async def _read(self) -> tuple[dict[str, int], dict[str, Any]]:
        async with connect("log-dashboard", namespace=self.namespace, url=self.url) as pipeline:
            return await pipeline.counts(), await pipeline.values()


def metrics(
    counts: Mapping[str, int], values: Mapping[str, Any], minutes: int, now: datetime
) -> Iterator[Metric]:
    """The metrics of these counts and values, `minutes` of them by minute, the current one among them."""
    total = CounterMetricFamily(
        "logs_events", "Lines counted since the pipeline began.", labels=["service", "level"]
    )
    by_minute = GaugeMetricFamily(
        "logs_events_per_minute",
        f"Lines written in a minute, of the last {minutes} minutes; grows while late ones come.",
        labels=["minute", "service", "level"],
    )
    astray = 0
    oldest = f"{now - timedelta(minutes=minutes - 1):%Y-%m-%dT%H:%MZ}"
    for name, counted in counts.items():
        when, service, level = name.split(" ")
        if when == "total":
            total.add_metric([service, level], counted)
        elif when == "astray":
            astray += counted
        elif when >= oldest:
            by_minute.add_metric([when, service, level], counted)
    yield total
    yield by_minute
    yield CounterMetricFamily(
        "logs_events_astray", "Lines too old or too far ahead to be counted in their minute.", astray
    )
    gauge = GaugeMetricFamily(
        "producer_gauge", "The last value that a producer published.", labels=["source", "name"]
    )
    for key, last in values.items():
        source, _, name = key.rpartition("/")
        if last["time"] > now.timestamp() * 1000 - STALE_MS:
            gauge.add_metric([source, name], last["value"])
    yield gauge


def serve(sums: Sums, port: int) -> ThreadingHTTPServer:
    """A server of /metrics on this port of every address (0: any), not started yet; raises OSError when it is taken."""
    registry = CollectorRegistry()
    registry.register(sums)

    class Scrape(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind = 200, CONTENT_TYPE_LATEST
            try:
                said = generate_latest(registry)
            except (StreamsError, ValueError) as error:
                status, kind, said = 503, "text/plain; charset=utf-8", f"{error}\n".encode()
                print(f"{datetime.now(UTC):%H:%M:%S} no metrics: {error}", file=sys.stderr, flush=True)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """A scrape every few seconds is no news."""

    return ThreadingHTTPServer(("", port), Scrape)


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description="Exports what the log dashboard's pipeline counted.")
    parser.add_argument(
        "--redis-url",
        default=os.environ.get("HEADGATE_REDIS_URL"),
        help="server of the pipeline; HEADGATE_REDIS_URL",
    )
    parser.add_argument(
        "--namespace", default=os.environ.get("HEADGATE_NAMESPACE", "default"), help="of the pipeline"
    )
    parser.add_argument("--port", type=int, default=9200, help="that /metrics is at; %(default)s")
    parser.add_argument(
        "--minutes", type=int, default=15, help="minutes that are exported one by one; %(default)s"
    )
    asked = parser.parse_args()
    server = serve(Sums(asked.redis_url, asked.namespace, asked.minutes), asked.port)
    print(f"http://localhost:{server.server_port}/metrics", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
