"""What a run shows of one pipeline, and of several."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from headgate.streams import BranchMeasurement, PipelineMeasurement
from headgate_cli.display_json import JsonDisplay
from headgate_cli.display_lines import LineDisplay
from headgate_cli.display_table import TableDisplay
from headgate_cli.manifests import load_all
from headgate_cli.summary import Figures, PipelineSummary, Summary
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    import pytest

DATA = Path(__file__).parents[1] / "data"


def readings(name: str, published: int = 3) -> list[PipelineReading]:
    return readings_of(DATA / name / "pipeline.yaml", published)


def readings_of(file: Path, published: int = 3) -> list[PipelineReading]:
    return [
        PipelineReading(
            pipeline=manifest.pipeline,
            measurement=PipelineMeasurement(published=published),
            branches={
                branch: BranchReading(
                    branch, BranchMeasurement(dead_letters=2), Workers(ready=1), 2, frozenset(), 1.5
                )
                for branch in manifest.pipeline.branch_names
            },
            level="",
            published_per_second=0.5,
        )
        for manifest in load_all(file)
    ]


def summary(*names: str) -> Summary:
    each = (PipelineSummary(f"default/{name}", name, Figures(3, {"a": 3}, 1, 2, 0)) for name in names)
    return Summary(tuple(each), 1.25)


def test_lines_name_the_pipeline_only_where_there_are_several(capsys: pytest.CaptureFixture[str]):
    lines = LineDisplay()
    lines.show(readings("noop"), 1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("    1 s  published 3 (0.5/s)  joined 0 | fast: backlog 0  1.5/s  workers 1/2")
    lines.show(readings("shop"), 2)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in said] == ["default/ledger:", "default/orders:", "default/invoices:"]
    changed = readings("shop")
    changed[1] = readings("shop", published=4)[1]
    lines.show(changed, 3)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("    3 s  default/orders: published 4")


def test_the_last_line_is_one_a_pipeline(capsys: pytest.CaptureFixture[str]):
    lines = LineDisplay()
    lines.end(summary("orders"))
    lines.end(summary("orders", "ledger"))
    assert capsys.readouterr().out.splitlines() == [
        "1.2 s: 3 published; settled: a 3; 2 joined, 1 dead-lettered",
        "1.2 s:",
        "  orders: 3 published; settled: a 3; 2 joined, 1 dead-lettered",
        "  ledger: 3 published; settled: a 3; 2 joined, 1 dead-lettered",
    ]


def test_a_summary_for_programs_adds_pipelines_up_and_lists_them(capsys: pytest.CaptureFixture[str]):
    display = JsonDisplay()
    display.end(summary("orders"))
    display.end(summary("orders", "ledger"))
    one, two = (json.loads(line)["summary"] for line in capsys.readouterr().out.splitlines())
    figures = {"published": 3, "settled": {"a": 3}, "deadLettered": 1, "joined": 2, "partial": 0}
    assert one == figures | {"seconds": 1.25}
    assert two == {
        "published": 6,
        "settled": {"orders/a": 3, "ledger/a": 3},
        "deadLettered": 2,
        "joined": 4,
        "partial": 0,
        "seconds": 1.25,
        "pipelines": {"default/orders": figures, "default/ledger": figures},
    }


def test_a_terminal_shows_a_table_a_pipeline_with_their_columns_below_each_other(tmp_path: Path):
    file = tmp_path / "shop.yaml"
    text = (DATA / "shop" / "pipeline.yaml").read_text()
    file.write_text(text.replace("name: book", "name: book-the-price"))
    screen = io.StringIO()
    with Live(console=Console(file=screen, width=100), auto_refresh=False) as live:
        TableDisplay(live).show(readings_of(file), 7)
    shown = screen.getvalue().splitlines()
    titles = [line.strip() for line in shown if line.startswith("default/")]
    assert titles == ["default/ledger", "default/orders", "default/invoices"]
    rules = {line for line in shown if line.startswith("┡")}
    assert len(rules) == 1
    assert shown[-1].strip() == "7 s"
