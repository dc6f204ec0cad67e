"""What a worker says over HTTP: /metrics, /healthz (its loop turns), /readyz (it has a lease and reads)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.worker.worker import Worker

_SILENT_SECONDS = 30.0


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds; nobody reads of each."""


def serve(worker: Worker, port: int) -> WSGIServer:
    """Serves in a thread of its own, so that a loop that is stuck can be told; gives the server (port 0: any)."""
    metrics = make_wsgi_app(worker.metrics.registry())

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start)  # type: ignore[no-any-return] # untyped in the library
        if path == "/healthz":
            silent = time.monotonic() - worker.alive_at
            good, text = silent < _SILENT_SECONDS, f"last heartbeat {silent:.1f} s ago"
        elif path == "/readyz":
            good, text = worker.ready, "reading" if worker.ready else "not reading: no lease yet, or draining"
        else:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"paths: /metrics /healthz /readyz\n"]
        start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [text.encode() + b"\n"]

    server = make_server("", port, app, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
