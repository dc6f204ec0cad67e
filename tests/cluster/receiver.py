"""A service as somebody else might have it: standard library only, it keeps what is pushed and shows it.

POST /hook keeps the push and answers with the status set by PUT /status, and with {"seen": n} where that is 200. GET /
gives all pushes as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.kube import Manifest

PORT = 8000
_CODE = """
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

pushed, status, lock = [], [200], threading.Lock()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers["content-length"])).decode()

    def do_POST(self):
        body = self.body()
        with lock:
            if status[0] == 200:
                pushed.append({"headers": {k.lower(): v for k, v in self.headers.items()}, "body": body})
        self.answer(status[0], {"seen": len(pushed)})

    def do_PUT(self):
        status[0] = int(self.body())
        self.answer(200, status)

    def do_GET(self):
        with lock:
            self.answer(200, pushed)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def receiver(namespace: str) -> Sequence[Manifest]:
    """The Deployment, and a Service of the same name."""
    labels = {"app": "receiver"}
    container = {
        "name": "receiver",
        "image": "headgate/valkey:dev",  # for its Python
        "command": ["python3", "-c", _CODE],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "receiver", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "receiver", "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"port": PORT}]},
    }
    return [deployment, service]
