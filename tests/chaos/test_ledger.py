"""The ledger in small, whatever is killed: `make chaos-workers` is the large one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from chaos.ledger.plan import Plan
from chaos.ledger.run import Phase, Report
from chaos.ledger.server import DurableServer
from streams.servers import SERVERS

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 10.0


def balanced(report: Report, seed: str) -> None:
    assert report.crashes == (), f"seed {seed}"
    assert report.verdict.faults == [], f"seed {seed}"
    assert report.verdict.is_clean
    assert report.struck["kill"] > 0


@pytest.mark.parametrize("kind", ["redis7", "cluster"])
async def test_the_ledger_balances_though_workers_are_killed_paused_and_cut_off(
    kind: str, tmp_path: Path
) -> None:
    seed = str(random.randrange(2**32))
    with SERVERS[kind]() as url:
        balanced(await Phase(Plan(seed, 1500), url, print).run(tmp_path, SECONDS), seed)


async def test_the_ledger_balances_though_the_server_is_killed_too(tmp_path: Path) -> None:
    seed = str(random.randrange(2**32))
    with DurableServer.running() as durable:
        phase = Phase(Plan(seed, 1000), durable.url, print)
        report = await phase.run(tmp_path, SECONDS, durable, restarts=2)
    balanced(report, seed)
    assert report.struck["restart"] == 2
