"""What a worker says over HTTP: /metrics (Prometheus or OpenMetrics), /healthz (alive) and /readyz (takes events)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.worker.health import Health
    from headgate.worker.metrics import WorkerMetrics


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds; nobody reads of each."""


def serve(metrics: WorkerMetrics, health: Health, port: int) -> WSGIServer:
    """Serves in a thread of its own, so that a loop that stands still can be told; gives the server (port 0: any)."""
    exposed = make_wsgi_app(metrics.registry())
    told = {"/healthz": health.alive, "/readyz": health.ready}

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return exposed(environ, start)  # type: ignore[no-any-return] # untyped in the library
        if path not in told:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"paths: /metrics /healthz /readyz\n"]
        good, text = told[path]()
        start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [text.encode() + b"\n"]

    server = make_server("", port, app, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
