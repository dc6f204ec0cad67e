"""A service that a branch pushes to, which a proof starts, stops and kills: a process here, else a Deployment."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.node import Node
from proofs.local import LocalStage
from proofs.on_cluster import ClusterStage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from cluster.kube import Cluster
    from proofs.stage import Stage

_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.05


class Service(abc.ABC):
    """What an example's http branch pushes to. It is down until it is started."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Returns when it listens."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Returns when it does not listen any more."""

    @abc.abstractmethod
    async def kill(self) -> None:
        """SIGKILL; returns when it has been started again, with what it had written, and listens."""

    @abc.abstractmethod
    async def ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the JSON of its answer."""


@contextlib.asynccontextmanager
async def service(
    stage: Stage, branch: str, command: Sequence[str], environment: Mapping[str, str], port: int
) -> AsyncIterator[Service]:
    """The service of a branch; to be entered before the example is applied.

    On this machine `command` is run, with {address} and {folder} in it replaced by where to listen and where to write;
    on a cluster the example's manifest has a Deployment of the branch's name, and a Service with `port`.
    """
    if isinstance(stage, ClusterStage):
        yield _Deployed(stage.cluster, stage.namespace, branch, port)
        return
    assert isinstance(stage, LocalStage)
    with tempfile.TemporaryDirectory(prefix="headgate-service-") as folder:
        found = _Process(command, environment, Path(folder))
        stage.options += ["--service", f"{branch}=http://{found.address}"]
        try:
            yield found
        finally:
            await found.stop()


class _Process(Service):
    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._command = [each.format(address=self.address, folder=folder) for each in command]
        self._environment = os.environ | dict(environment)
        self._log = folder / "log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            said = f"{self._command} does not listen: {self._log.read_text()[-2000:]}"
            assert self._process.returncode is None, said
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                return
            assert time.monotonic() < deadline, said
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def kill(self) -> None:
        await self.stop()  # which is as hard
        await self.start()

    async def ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        return await asyncio.to_thread(_asked, self.address, method, path, body, headers)


class _Deployed(Service):
    def __init__(self, cluster: Cluster, namespace: str, name: str, port: int) -> None:
        self._cluster, self._namespace, self._name, self._port = cluster, namespace, name, port

    async def start(self) -> None:
        await self._kubectl("scale", f"deployment/{self._name}", "--replicas=1")
        await self._kubectl("rollout", "status", f"deployment/{self._name}", "--timeout=60s")

    async def stop(self) -> None:
        await self._kubectl("scale", f"deployment/{self._name}", "--replicas=0")
        await self._kubectl("wait", "pod", "-l", f"app={self._name}", "--for=delete", "--timeout=60s")

    async def kill(self) -> None:
        await asyncio.to_thread(self._kill)

    async def ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: str, headers: Mapping[str, str] | None) -> tuple[int, Any]:
        # A port is forwarded to one container, and not to the next after a kill: so anew each time.
        with self._cluster.forward(self._namespace, f"service/{self._name}", self._port) as address:
            return _asked(address, method, path, body, headers)

    def _kill(self) -> None:
        node = Node(self._cluster)
        node.start()
        pod, before, _ = self._pod()
        assert node.kill_container(pod) == 1, f"pod {pod} has one container, and its process was there"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            _, restarts, is_ready = self._pod()
            if restarts > before and is_ready:
                return
            assert time.monotonic() < deadline, f"pod {pod} was not started again"
            time.sleep(_LOOK_SECONDS)

    def _pod(self) -> tuple[str, int, bool]:
        """Name, restarts, and whether it listens."""
        (pod,) = self._cluster.items(self._namespace, "pods", "-l", f"app={self._name}")
        (status,) = pod["status"]["containerStatuses"]
        return pod["metadata"]["name"], status["restartCount"], status["ready"]

    async def _kubectl(self, *arguments: str) -> None:
        await asyncio.to_thread(self._cluster.kubectl, "-n", self._namespace, *arguments)


def _asked(
    address: str, method: str, path: str, body: str, headers: Mapping[str, str] | None
) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://{address}{path}", data=body.encode() or None, headers=dict(headers or {}), method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - of this machine
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)
