"""`headgate run` of a file with several pipelines, which run together and feed each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams import PipelineKeys, ensure_groups
from headgate_cli import settlement

if TYPE_CHECKING:
    import pytest

    from headgate.streams import Server

SHOP = Path(__file__).parents[1] / "data" / "shop"
ORDERS = 40
PRICES = [3 * n for n in range(ORDERS)]


def headgate(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "headgate_cli.main", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def shop(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The shop's manifest with pieces of its text replaced, beside its handlers."""
    text = (SHOP / "pipeline.yaml").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    (folder / "handlers.py").write_text((SHOP / "handlers.py").read_text())
    (folder / "shop.yaml").write_text(text)
    return folder / "shop.yaml"


def settled(file: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return headgate(
        file.parent,
        *("run", file, "--publish", str(ORDERS), "--until-settled", "--timeout", "60", "--redis-url", url),
        *options,
    )


def test_all_pipelines_of_a_file_run_together_and_end_when_the_last_is_settled(
    tmp_path: Path, server_url: str
):
    done = settled(shop(tmp_path), server_url, "--json")
    assert done.returncode == 0, done.stderr
    *seconds, last = map(json.loads, done.stdout.splitlines())
    summary = last["summary"]
    assert summary.pop("seconds") > 0
    assert summary == {
        # Each order, its record and its price.
        "published": 3 * ORDERS,
        "settled": {
            "ledger/book": ORDERS,
            "orders/check": ORDERS,
            "orders/charge": ORDERS,
            "invoices/send": ORDERS,
            "invoices/check": ORDERS,
        },
        "deadLettered": 0,
        "joined": 2 * ORDERS,
        "partial": 0,
        "pipelines": {
            "default/ledger": figures({"book": ORDERS}, joined=0),
            "default/orders": figures({"check": ORDERS, "charge": ORDERS}, joined=ORDERS),
            "default/invoices": figures({"send": ORDERS, "check": ORDERS}, joined=ORDERS),
        },
    }
    names = ["default/ledger", "default/orders", "default/invoices"]
    assert [each["pipeline"] for each in seconds] == names * (len(seconds) // 3)
    assert [branch["name"] for branch in seconds[-2]["branches"]] == ["check", "charge"]
    counts = headgate(tmp_path, "counts", "-p", "ledger", "--redis-url", server_url)
    assert json.loads(counts.stdout) == {"sum": sum(PRICES)}
    records = headgate(tmp_path, "records", "-p", "invoices", "--redis-url", server_url).stdout.splitlines()
    assert sorted(json.loads(each)["results"]["send"] for each in records) == PRICES


def figures(settled_of: dict[str, int], joined: int) -> dict[str, object]:
    return {
        "published": ORDERS,
        "settled": settled_of,
        "deadLettered": 0,
        "joined": joined,
        "partial": 0,
    }


def test_a_dead_letter_in_any_of_them_ends_with_3_and_its_pipeline(tmp_path: Path, valkey_url: str):
    done = settled(shop(tmp_path, ("handlers:orders", "handlers:poisoned")), valkey_url)
    assert done.returncode == 3
    assert "branch ledger/book: dead-lettered 1 events; the first, " in done.stderr
    assert "data.poison" in done.stderr
    lines = done.stdout.splitlines()
    assert f"  ledger: {ORDERS} published; settled: book {ORDERS}; 0 joined, 1 dead-lettered" in lines
    assert (
        f"  orders: {ORDERS} published; settled: check {ORDERS}, charge {ORDERS}; {ORDERS} joined, 0 dead-lettered"
        in lines
    )


def test_what_does_not_settle_in_time_is_told_by_pipeline(tmp_path: Path, valkey_url: str):
    file = shop(tmp_path, ("source: {partitions: 2}", "paused: true"))
    done = headgate(
        tmp_path,
        *("run", file, "--publish", "4", "--until-settled", "--timeout", "8", "--redis-url", valkey_url),
    )
    assert done.returncode == 4
    assert (
        "not settled within 8 s: orders: branch check: 4 events, branch charge: 4 events (logs: "
        in done.stderr
    )


def test_workers_that_cannot_run_are_told_by_pipeline_and_have_logs_of_their_own(
    tmp_path: Path, valkey_url: str
):
    file = shop(tmp_path, ("handlers:check", "handlers:chuck"))
    done = settled(file, valkey_url)
    assert done.returncode == 5
    assert "branch orders/check: its workers cannot run: " in done.stderr.splitlines()[-1]
    assert done.stderr.rstrip().endswith("/.headgate/logs/orders.check-0.log)")


def test_an_outbox_with_something_for_a_pipeline_that_is_not_here_holds_only_that_back(
    tmp_path: Path, valkey_url: str
):
    file = shop(tmp_path, ("{pipeline: invoices}", "{pipeline: shipping}"))
    done = settled(file, valkey_url, "--json")
    assert done.returncode == 0, done.stderr
    assert "pipeline shipping is not on this server: records for it wait in the outbox" in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["summary"]["settled"]
    assert (found["ledger/book"], found["invoices/send"]) == (ORDERS, 0)


async def test_only_what_is_for_a_pipeline_of_this_server_is_on_its_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settlement, "_PAGE", 2)
    keys = PipelineKeys("default", "orders", 2)
    await ensure_groups(server, keys, ["check"])
    outbox = keys.partition(1).outbox
    assert not await settlement.on_their_way(server, keys)
    for name in ("default/nowhere", "default/shipping", "other/orders"):
        await server.execute(outbox, "XADD", outbox, "*", "to", name)
    assert not await settlement.on_their_way(server, keys)
    await server.execute(outbox, "XADD", outbox, "*", "to", "default/orders")
    assert await settlement.on_their_way(server, keys)


def test_events_to_publish_need_a_pipeline_that_says_where_they_come_from(tmp_path: Path):
    file = shop(tmp_path, ("headgate.dev/sample-events", "other"))
    done = headgate(tmp_path, "run", file, "--publish", "3")
    assert done.returncode == 2
    assert f"--publish: none of the 3 pipelines of {file} has the annotation" in done.stderr
