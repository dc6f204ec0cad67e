"""Who leads, on a real API server: one at a time, whatever happens to the one that did."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from cluster.apiserver import ApiServer
from headgate_operator.cluster import Cluster
from headgate_operator.leader import Leader, LeadershipLostError, LeaseTimes

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = LeaseTimes(duration=2, renew_deadline=1.5, retry=0.2)
LEASE = ("coordination.k8s.io/v1", "Lease", "default")


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("api-server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def cluster(api_server, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    connected = await Cluster.connect()
    yield connected
    await connected.aclose()


@pytest.fixture
def candidate(cluster, request):
    """Makes candidates for a Lease of the test's own."""
    lease = request.node.name.replace("_", "-")[:60].strip("-")
    return lambda identity: Leader(cluster, "default", lease, identity, QUICK)


async def test_the_second_waits_until_the_lease_of_a_dead_one_runs_out(candidate):
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    died = time.monotonic()
    await second.acquire()
    assert QUICK.duration <= time.monotonic() - died < QUICK.duration + 3


async def test_one_that_renews_keeps_the_lead(candidate):
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * QUICK.duration):
            await second.acquire()
    assert not keeping.done()
    keeping.cancel()


async def test_a_released_lease_is_taken_at_once(candidate):
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    await first.release()
    async with asyncio.timeout(QUICK.duration / 2):
        await second.acquire()


async def test_one_whose_lease_was_taken_over_must_stop(candidate):
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    await second.acquire()
    with pytest.raises(LeadershipLostError):
        await first.keep()
    assert not first.leads
    await first.release()
    keeping = asyncio.create_task(second.keep())
    await asyncio.sleep(1)
    assert not keeping.done()
    keeping.cancel()


async def test_one_that_cannot_renew_in_time_must_stop_before_its_lease_runs_out(
    candidate, api_server, monkeypatch
):
    first = candidate("first")
    await first.acquire()
    monkeypatch.setattr(first._cluster.configuration, "host", "https://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(LeadershipLostError):
        await first.keep()
    assert time.monotonic() - started < QUICK.duration + 0.5
    assert api_server.kubectl("get", "--raw", "/readyz").returncode == 0


async def test_of_many_that_start_together_one_leads(candidate):
    leaders = [candidate(f"candidate-{number}") for number in range(6)]
    racing = [asyncio.create_task(leader.acquire()) for leader in leaders]
    await asyncio.sleep(QUICK.duration / 2)
    assert sum(leader.leads for leader in leaders) == 1
    for task in racing:
        task.cancel()


async def test_transitions_are_counted_and_times_are_written(candidate, cluster, request):
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    await first.release()
    await second.acquire()
    name = request.node.name.replace("_", "-")[:60].strip("-")
    spec = (await cluster.get(*LEASE, name))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)
    assert spec["renewTime"] >= spec["acquireTime"]


async def test_one_whose_lease_ran_out_unrenewed_may_not_write_though_it_has_not_noticed(candidate):
    first = candidate("first")
    with pytest.raises(LeadershipLostError):
        first.permit()
    await first.acquire()
    first.permit()
    await asyncio.sleep(QUICK.duration)
    with pytest.raises(LeadershipLostError):
        first.permit()
    with pytest.raises(LeadershipLostError):
        await first.keep()


async def test_one_whose_process_hangs_does_not_keep_the_lead(cluster, request):
    lease = request.node.name.replace("_", "-")[:60].strip("-")
    hung = Leader(cluster, "default", lease, "hung", QUICK, is_alive=lambda: False)
    await hung.acquire()
    with pytest.raises(LeadershipLostError):
        await hung.keep()


async def test_a_slow_api_server_makes_the_lease_longer_instead_of_costing_the_lead(
    cluster, monkeypatch, request
):
    lease, usual, call = request.node.name.replace("_", "-")[:30].strip("-"), LeaseTimes(), Cluster._call
    first = Leader(cluster, "default", lease, "first", usual)
    await first.acquire()

    async def slowly(*arguments: Any) -> Any:
        await asyncio.sleep(1)
        return await call(*arguments)

    monkeypatch.setattr(Cluster, "_call", slowly)
    keeping = asyncio.create_task(first.keep())
    await asyncio.sleep(2 * usual.duration)
    assert not keeping.done()
    keeping.cancel()
    spec = (await cluster.get(*LEASE, lease))["spec"]
    assert usual.duration < spec["leaseDurationSeconds"] <= usual.longest


async def test_a_leader_with_very_much_to_do_holds_a_longer_lease_until_it_is_done(cluster, request):
    lease, much = request.node.name.replace("_", "-")[:30].strip("-"), True
    first = Leader(cluster, "default", lease, "first", QUICK, is_busy=lambda: much)
    await first.acquire()
    assert (await cluster.get(*LEASE, lease))["spec"]["leaseDurationSeconds"] == QUICK.longest
    much = False
    keeping = asyncio.create_task(first.keep())
    async with asyncio.timeout(60):
        while (await cluster.get(*LEASE, lease))["spec"]["leaseDurationSeconds"] == QUICK.longest:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not keeping.done()
    keeping.cancel()
