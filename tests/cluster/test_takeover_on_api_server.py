"""Two operators, as the chart runs them: when the one that leads dies or is held up, the other flies its pipelines."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from bench.operator_process import OperatorProcess
from bench.operator_takeover import take_over
from headgate.streams import PipelineKeys
from headgate_operator.api import API_VERSION, KIND
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

LEASE = ("coordination.k8s.io/v1", "Lease", "default", "headgate-operator")


@pytest.fixture
def redis_url() -> Iterator[str]:
    with redis7() as url:
        yield url


@pytest.fixture
def operators(api_server: ApiServer, redis_url: str, tmp_path: Path) -> Iterator[list[OperatorProcess]]:
    """One that leads, and one that waits to."""
    running = []
    try:
        for name, event in (("first", "leading"), ("second", "waiting to lead")):
            running.append(OperatorProcess(api_server.kubeconfig, redis_url, tmp_path / name))
            running[-1].await_said(event)
        yield running
    finally:
        for each in running:
            each.process.send_signal(signal.SIGCONT)
            each.stop()
            print(each.log.read_text())  # noqa: T201  # pytest shows it when the test fails


@pytest.fixture
def pipeline(
    api_server: ApiServer,
    operators: list[OperatorProcess],  # noqa: ARG001  # they end after it is deleted
    request: Any,
) -> Iterator[str]:
    """A pipeline of one branch without workers, flown by the first of them; gives its name."""
    name = "taken-" + request.node.name.partition("[")[0].rpartition("_")[2]
    branch = {
        "name": "work",
        "handler": {"python": {"image": "videos:1", "function": "videos:work"}},
        "scale": {"min": 0, "max": 3},
    }
    given = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": "default", "name": name},
        "spec": {"branches": [branch]},
    }
    assert api_server.kubectl("apply", "-f", "-", given=given).returncode == 0
    eventually(lambda: "True" in api_server.kubectl("get", "fop", name).stdout)
    yield name
    assert api_server.kubectl("delete", "fop", name, "--timeout=60s").returncode == 0


def eventually(ask: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.05)


async def test_a_killed_leader_is_replaced_by_one_that_ticks_and_scales(operators, pipeline, api, redis_url):
    leader, standby = operators
    before = (await api.get(*LEASE))["spec"]
    took = await take_over(leader, standby, api, redis_url, (PipelineKeys("default", pipeline), "work"))
    print(  # noqa: T201  # the figures are what one runs it for: pytest -s
        f"\nafter the SIGKILL another led in {took.led:.2f} s, ticked in {took.ticked:.2f} s and had a branch"
        f" scaled from zero in {took.scaled:.2f} s"
    )
    after = (await api.get(*LEASE))["spec"]
    assert after["holderIdentity"] != before["holderIdentity"]
    assert after["leaseTransitions"] == before["leaseTransitions"] + 1
    assert took.led <= took.ticked <= took.scaled


async def test_a_leader_that_was_held_up_writes_nothing_more_and_ends(operators, pipeline, api, api_server):
    leader, standby = operators
    leader.process.send_signal(signal.SIGSTOP)
    eventually(lambda: standby.said("leading"))
    passes = leader.log.read_text().count('"event": "reconciled"')
    taken = (await api.get(*LEASE))["spec"]["holderIdentity"]
    # Work for whoever thinks it leads: a pass, and a status.
    change = json.dumps(
        {
            "spec": {
                "branches": [
                    {
                        "name": "work",
                        "handler": {"python": {"image": "videos:2", "function": "videos:work"}},
                        "scale": {"min": 0, "max": 3},
                    }
                ]
            }
        }
    )
    assert api_server.kubectl("patch", "fop", pipeline, "--type=merge", "-p", change).returncode == 0
    leader.process.send_signal(signal.SIGCONT)
    assert leader.process.wait(30) == 1
    assert leader.said("lost the lead: exiting at once, another one leads")
    assert (await api.get(*LEASE))["spec"]["holderIdentity"] == taken
    eventually(lambda: standby.said("reconciled"))
    after = leader.log.read_text().count('"event": "reconciled"')
    assert after == passes, "nothing was written after it was held up"
