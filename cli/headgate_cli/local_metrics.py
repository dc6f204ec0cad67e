"""A run's metrics over HTTP: what the operator would expose at /metrics, and all that can be scraped at /targets.

/targets speaks Prometheus's HTTP service discovery, because workers come and go with the load, each on a port of its
own: one `http_sd_configs` entry finds the run and every worker it has now.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import msgspec
from prometheus_client import CollectorRegistry, make_wsgi_app

from headgate_cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.registry import Collector

ADDRESS = "127.0.0.1"


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A scrape a second is no news."""


@contextlib.contextmanager
def serving_metrics(port: int, collector: Collector, workers: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Serves `collector` at /metrics and, at /targets, this address and those that `workers` gives.

    Raises CommandError when the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start)  # type: ignore[no-any-return] # untyped in the library
        if path == "/targets":
            start("200 OK", [("Content-Type", "application/json")])
            return [msgspec.json.encode([{"targets": [f"{ADDRESS}:{port}", *workers()], "labels": {}}])]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"paths: /metrics /targets\n"]

    try:
        server = make_server(ADDRESS, port, app, handler_class=_Quiet)
    except OSError as error:
        raise CommandError(
            f"--metrics-port: {port}: {error.strerror}; choose another", Exit.INVALID
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
