"""A leader that is stopped in the middle of its work goes on when another leads, and nothing that it writes arrives.

It talks to the API server and to Redis through the proxies of `make crash-operator`, which know every write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from bench.operator_process import OperatorProcess
from chaos.operator.api import Api
from chaos.operator.fate import Fate
from chaos.operator.kube_proxy import KubeProxy
from chaos.operator.redis_proxy import RedisProxy
from chaos.operator.weather import Kind, Weather
from headgate.event import NewEvent
from headgate.streams import PipelineKeys, Publisher, Server
from headgate.streams.script import MEASURE
from headgate_operator.api import API_VERSION, KIND
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

NAME = "held-up"
KEYS = PipelineKeys("default", NAME, 2)
SWEPT_SECONDS = 6.0
"""After so long a sweep is due."""
LISTENED_SECONDS = 1.0
"""What a process sent before it ended has arrived by then."""


class Way(Fate):
    """Between one operator and its two servers. Stops it at the first request that `halts` is true of."""

    def __init__(self, api: Api, redis_url: str) -> None:
        super().__init__()
        self.kube = KubeProxy(api, self, Weather(Kind.FAIR, "", 1))
        self.redis = RedisProxy("a", int(redis_url.rpartition(":")[2]), self, 1, self._hear)
        self.halts: Callable[[str], bool] = lambda _request: False
        self.halted = asyncio.Event()
        self.process = 0
        self.users = 0
        """So often was a user made or removed."""

    def enter(self, write: str | None) -> bool:
        """See Fate."""
        self._halt(write or "")
        return super().enter(write)

    def writes(self) -> dict[str, int]:
        """Those since `forget`, by name, but for the Lease: whose that is the API server decides."""
        kept = {name: count for name, count in self.counts.items() if "leases/" not in name}
        return kept | ({"users": self.users} if self.users else {})

    def forget(self) -> None:
        """Counts anew."""
        self.renew()
        self.users = 0

    def _hear(self, command: list[bytes]) -> None:
        self.users += command[0] == b"ACL" and command[1] in (b"SETUSER", b"DELUSER")
        self._halt(b" ".join(command).decode(errors="replace"))

    def _halt(self, request: str) -> None:
        if not self.halted.is_set() and self.halts(request):
            os.kill(self.process, signal.SIGSTOP)
            self.halted.set()


@pytest.fixture
def redis_url() -> Iterator[str]:
    with redis7() as url:
        yield url


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    """Past the proxy."""
    async with contextlib.aclosing(Server.connect(redis_url)) as connected:
        yield connected


@pytest.fixture
async def way(api_server: ApiServer, redis_url: str, tmp_path: Path) -> AsyncIterator[Way]:
    api = Api(api_server.kubeconfig)
    made = Way(api, redis_url)
    await made.kube.start(tmp_path / "kubeconfig")
    await made.redis.start()
    yield made
    await made.kube.stop()
    await made.redis.stop()
    await api.aclose()


@pytest.fixture
async def leader(way: Way, tmp_path: Path) -> AsyncIterator[OperatorProcess]:
    # It waits for an answer for as long as it is stopped: what a time-out ends would prove nothing.
    url = f"redis://127.0.0.1:{way.redis.port}?socket_timeout=60"
    async with running(tmp_path / "kubeconfig", url, tmp_path / "1") as one:
        way.process = one.process.pid
        await eventually(lambda: one.said("leading"))
        yield one


@pytest.fixture
async def standby(
    api_server: ApiServer,
    redis_url: str,
    leader: OperatorProcess,  # noqa: ARG001  # the first one leads
    tmp_path: Path,
) -> AsyncIterator[OperatorProcess]:
    async with running(api_server.kubeconfig, redis_url, tmp_path / "2") as other:
        await eventually(lambda: other.said("waiting to lead"))
        yield other


@pytest.fixture
async def pipeline(api_server: ApiServer, standby: OperatorProcess, way: Way) -> AsyncIterator[None]:  # noqa: ARG001
    """One of two partitions, flown by the leader."""
    apply(api_server, 1, "work")
    await eventually(lambda: "True" in api_server.kubectl("get", "fop", NAME).stdout)
    yield
    gone = await asyncio.to_thread(api_server.kubectl, "delete", "fop", NAME, "--timeout=60s")
    assert gone.returncode == 0


@contextlib.asynccontextmanager
async def running(kubeconfig: Path, redis_url: str, log: Path) -> AsyncIterator[OperatorProcess]:
    operator = OperatorProcess(kubeconfig, redis_url, log)
    try:
        yield operator
    finally:
        operator.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(operator.stop)  # it talks through the proxies to the last
        print(log.read_text())  # noqa: ASYNC240, T201  # pytest shows it when the test fails


async def eventually(ask: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(ask):
        assert time.monotonic() < deadline, f"not after {seconds} s"
        await asyncio.sleep(0.05)


def apply(api_server: ApiServer, version: int, *branches: str) -> None:
    handler = {"python": {"image": f"videos:{version}", "function": "videos:work"}}
    spec: dict[str, Any] = {
        "onRemove": "Delete",
        "source": {"partitions": KEYS.partitions},
        "branches": [{"name": name, "handler": handler, "scale": {"min": 0, "max": 3}} for name in branches],
    }
    metadata = {"namespace": KEYS.namespace, "name": NAME}
    given = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    applied = api_server.kubectl("apply", "-f", "-", given=given)
    assert applied.returncode == 0, applied.stderr


async def groups_become(server: Server, wanted: set[str]) -> None:
    async with asyncio.timeout(60):
        while await groups(server) != [wanted] * KEYS.partitions:  # noqa: ASYNC110  # another process makes them
            await asyncio.sleep(0.05)


async def groups(server: Server) -> list[set[str]]:
    """Of each partition; empty where there is no stream."""
    lanes = [partition.lanes[0] for partition in KEYS.all]
    if not all([await server.execute(lane, "EXISTS", lane) for lane in lanes]):
        return []
    found = [await server.execute(lane, "XINFO", "GROUPS", lane) for lane in lanes]
    return [{group[group.index(b"name") + 1].decode() for group in of_one} for of_one in found]


def in_a_pass_over_groups(request: str) -> bool:
    """It asks for the partitions; what comes next makes the groups what its spec says."""
    return request.startswith("HMGET ") and request.endswith(":settings partitions")


def in_a_pass_over_workers(request: str) -> bool:
    """What comes next tells of it, in events and the status."""
    return request == f"PATCH deployments/{NAME}-work"


def in_a_round(request: str) -> bool:
    """The pilot measures; what comes next are workers, gates and sweeps."""
    return request.startswith(f"EVALSHA {MEASURE.sha} ")


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("halts", [in_a_pass_over_groups, in_a_pass_over_workers, in_a_round])
async def test_nothing_arrives_of_what_one_writes_that_was_stopped_until_another_led(
    *,
    halts: Callable[[str], bool],
    leader: OperatorProcess,
    standby: OperatorProcess,
    way: Way,
    server: Server,
    api_server: ApiServer,
) -> None:
    # An event that nobody handles: the pilot looks at this pipeline every second.
    await Publisher(server, KEYS).publish([NewEvent(data=0)])
    way.halts = halts
    await asyncio.to_thread(apply, api_server, 2, "work")  # a pass is due
    async with asyncio.timeout(60):
        await way.halted.wait()
    stopped = time.monotonic()
    await eventually(lambda: standby.said("leading"))
    await asyncio.to_thread(apply, api_server, 3, "work", "late")
    await groups_become(server, {"work", "late"})
    await asyncio.sleep(max(0.0, stopped + SWEPT_SECONDS - time.monotonic()))
    assert await writes_of_one_that_goes_on(leader, way) == {}
    assert await groups(server) == [{"work", "late"}] * 2


@pytest.mark.usefixtures("pipeline")
async def test_one_stopped_in_a_removal_removes_nothing_of_a_pipeline_made_again(
    leader: OperatorProcess,
    standby: OperatorProcess,
    way: Way,
    server: Server,
    api_server: ApiServer,
) -> None:
    way.halts = lambda request: request == "PING"  # what comes next are the keys
    deleting = asyncio.create_task(asyncio.to_thread(api_server.kubectl, "delete", "fop", NAME))
    async with asyncio.timeout(60):
        await way.halted.wait()
    await eventually(lambda: standby.said("pipeline removed"))
    assert (await deleting).returncode == 0
    await asyncio.to_thread(apply, api_server, 2, "work")
    await groups_become(server, {"work"})
    assert await writes_of_one_that_goes_on(leader, way) == {}
    assert await groups(server) == [{"work"}] * 2


async def writes_of_one_that_goes_on(stopped: OperatorProcess, way: Way) -> dict[str, int]:
    """Until it ends, as it must."""
    way.forget()
    stopped.process.send_signal(signal.SIGCONT)
    assert await asyncio.to_thread(stopped.process.wait, 30) == 1
    await asyncio.sleep(LISTENED_SECONDS)
    assert stopped.said("lost the lead: exiting at once, another one leads")
    return way.writes()
