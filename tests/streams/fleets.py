"""Servers that fail over: a master with replicas and sentinels, a cluster with replicas; nodes are killed and frozen.

Each fleet is a context manager; its processes end by their handles, none outlives it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from streams.servers import CLUSTER_SLOTS, free_port, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

START_SECONDS = 30.0
DOWN_AFTER_MS = 1000
MASTER = "the-master"
# Replicas that are there at once, and know soon that their master is not.
_REPLICATION = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "5"]


class Node:
    """One server process in a folder of its own; it can be killed, frozen, and started again on its port."""

    def __init__(self, folder: Path, options: Sequence[str], binary: str | None = None) -> None:
        folder.mkdir()
        self.port = free_port()
        self.folder = folder
        self._command = [binary or redis_server(), *options, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--dir", str(folder), "--logfile", str(folder / "log"), "--daemonize", "no"]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, ready: Callable[[], bool] | None = None) -> None:
        """Starts it and waits until it answers, or is as ready as the caller wants it."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        until(ready or self._answers, f"port {self.port} answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            return bool(self.call("PING"))
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def call(self, *command: str | int) -> Any:
        """One command on a connection of its own."""
        client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, decode_responses=True)
        with contextlib.closing(client):
            return client.execute_command(*command)

    @property
    def url(self) -> str:
        """Of this node alone."""
        return f"redis://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """Connections stay, and nobody answers on them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on where it was frozen."""
        self._signal(signal.SIGCONT)

    def revive(self) -> None:
        """Starts it again, empty, if it was killed; a node of a cluster remembers who it is."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)


@contextlib.contextmanager
def single(options: Sequence[str] = (), binary: str | None = None) -> Iterator[Node]:
    """One server, with options of its own."""
    with _fleet() as (folder, started):
        started.append(Node(folder / "node", ["--save", "", *options], binary))
        yield started[0]


@contextlib.contextmanager
def pair(binary: str) -> Iterator[tuple[Node, Node]]:
    """A master and its one replica."""
    with _fleet() as (folder, started):
        plain = ["--save", "", "--appendonly", "no", *_REPLICATION]
        started.append(Node(folder / "master", plain, binary))
        master = started[0]
        replica = Node(folder / "replica", [*plain, "--replicaof", f"127.0.0.1 {master.port}"], binary)
        started.append(replica)
        until(lambda: _follows(replica), "the replica follows")
        yield master, replica


@dataclass
class Sentinels:
    """A master, its replicas, and three sentinels that agree who it is."""

    nodes: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        """As a user gives it."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}"

    @property
    def master(self) -> Node:
        """Who the first sentinel says it is."""
        _, port = self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return next(node for node in self.nodes if node.port == int(port))


@contextlib.contextmanager
def sentinels(replicas: int = 2) -> Iterator[Sentinels]:
    """One master, its replicas and three sentinels, that fail over in about two seconds."""
    with _fleet() as (folder, started):
        plain = ["--save", "", "--appendonly", "no", *_REPLICATION]
        for number in range(1 + replicas):
            of = [] if number == 0 else ["--replicaof", f"127.0.0.1 {started[0].port}"]
            started.append(Node(folder / f"node{number}", [*plain, *of]))
        nodes = list(started)
        until(lambda: all(map(_follows, nodes[1:])), "the replicas follow")
        for number in range(3):
            # A sentinel writes what it learns into its configuration.
            path = folder / f"sentinel{number}.conf"
            path.write_text(
                f"sentinel monitor {MASTER} 127.0.0.1 {nodes[0].port} 2\n"
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {MASTER} 5000\nsentinel parallel-syncs {MASTER} 2\n"
            )
            started.append(Node(folder / f"sentinel{number}", [str(path), "--sentinel"]))
        watching = started[len(nodes) :]
        until(lambda: all(_knows(sentinel, replicas) for sentinel in watching), "the sentinels agree")
        yield Sentinels(nodes, watching)


def _knows(sentinel: Node, replicas: int) -> bool:
    state = sentinel.call("SENTINEL", "MASTER", MASTER)
    return int(state["num-slaves"]) == replicas and int(state["num-other-sentinels"]) == 2


@dataclass
class Cluster:
    """Masters that share the slots, and a replica of each."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        """As a user gives it: not every node need be up."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def master_of(self, key: str) -> Node:
        """The node that holds a key, as the first node that lives says."""
        slot = self._any().call("CLUSTER", "KEYSLOT", key)
        for first, last, port in self._shards():
            if first <= slot <= last:
                return self._at(port)
        raise AssertionError(f"nobody has slot {slot}")

    def masters(self) -> list[Node]:
        """Every node that has slots."""
        return [self._at(port) for port in dict.fromkeys(port for _, _, port in self._shards())]

    def _shards(self) -> list[tuple[int, int, int]]:
        """First and last slot, and the port of the master that has them."""
        shards = self._any().call("CLUSTER", "SLOTS")
        return [(int(shard[0]), int(shard[1]), int(shard[2][1])) for shard in shards]

    def _any(self) -> Node:
        for node in self.nodes:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                node.call("PING")
                return node
        raise AssertionError("no node answers")

    def _at(self, port: int) -> Node:
        return next(node for node in self.nodes if node.port == port)

    def move(self, key: str, pause_seconds: float = 0.0) -> None:
        """Moves the slot of a key to another master, key by key, as `redis-cli --cluster reshard` does."""
        slot = self._any().call("CLUSTER", "KEYSLOT", key)
        source = self.master_of(key)
        target = next(node for node in self.masters() if node is not source)
        source_id, target_id = (node.call("CLUSTER", "MYID") for node in (source, target))
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        time.sleep(pause_seconds / 2)
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 10):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        time.sleep(pause_seconds / 2)
        for node in (target, source, *(other for other in self.masters() if other not in {source, target})):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)


@contextlib.contextmanager
def cluster_with_replicas(masters: int = 3, timeout_ms: int = 2000) -> Iterator[Cluster]:
    """Masters and a replica of each, that take a master's place `timeout_ms` after it is gone, and a little."""
    with _fleet() as (folder, nodes):
        buses = [free_port() for _ in range(2 * masters)]
        for number, bus in enumerate(buses):
            options = [
                "--save",
                "",
                "--appendonly",
                "no",
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                str(bus),
            ]
            options += ["--cluster-node-timeout", str(timeout_ms), "--cluster-replica-validity-factor", "0"]
            nodes.append(Node(folder / f"node{number}", [*options, *_REPLICATION]))
        bounds = [CLUSTER_SLOTS * number // masters for number in range(masters + 1)]
        for number, node in enumerate(nodes[:masters]):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.call("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        until(lambda: all(_sees(node, 2 * masters) for node in nodes), "the nodes have met")
        for master, replica in zip(nodes[:masters], nodes[masters:], strict=True):
            replica.call("CLUSTER", "REPLICATE", master.call("CLUSTER", "MYID"))
        until(lambda: all(map(_follows, nodes[masters:])), "the replicas follow")
        until(lambda: all(_agrees(node, masters) for node in nodes), "the nodes agree")
        yield Cluster(list(nodes))


def _sees(node: Node, count: int) -> bool:
    return f"cluster_known_nodes:{count}" in str(node.call("CLUSTER", "INFO"))


def _agrees(node: Node, masters: int) -> bool:
    """Every shard is known to this node, with its replica."""
    shards = node.call("CLUSTER", "SLOTS")
    return len(shards) == masters and all(len(shard) == 4 for shard in shards)


def _follows(replica: Node) -> bool:
    return bool(replica.call("INFO", "replication")["master_link_status"] == "up")


def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def _fleet() -> Iterator[tuple[Path, list[Node]]]:
    """A folder and a list; whatever node is on the list by the end is stopped."""
    with tempfile.TemporaryDirectory(prefix="headgate-fleet-", ignore_cleanup_errors=True) as name:
        started: list[Node] = []
        try:
            yield Path(name), started
        finally:
            for node in started:
                node.kill()
