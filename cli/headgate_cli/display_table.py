"""A run on a terminal: a table that stays in place, with the branches of each pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from headgate_cli.display_text import closing, headline, or_unknown
from headgate_operator.api import GateState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.live import Live

    from headgate_cli.summary import Summary
    from headgate_operator.readings import BranchReading, PipelineReading

_COLUMNS = ("branch", "backlog", "age s", "settled/s", "workers", "gate", "dead letters")
_LEFT = frozenset({"branch", "gate"})


class TableDisplay:
    """A table that stays in place; one below the other where there are several pipelines."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def say(self, text: str) -> None:
        """Above the table."""
        self._live.console.print(text, highlight=False, markup=False)

    def show(self, readings: Sequence[PipelineReading], seconds: float) -> None:
        """The table anew."""
        if len(readings) == 1:
            table = _table(readings[0], f"{seconds:.0f} s  {headline(readings[0])}")
            self._live.update(table, refresh=True)
            return
        # Below each other their columns should be too.
        widest = max(len(name) for reading in readings for name in reading.pipeline.branch_names)
        tables = [_table(reading, headline(reading), widest) for reading in readings]
        self._live.update(Group(*tables, f"{seconds:.0f} s"), refresh=True)

    def end(self, summary: Summary) -> None:
        """Below the table."""
        self._live.stop()
        for line in closing(summary):
            self._live.console.print(line, highlight=False)


def _table(reading: PipelineReading, caption: str, widest: int | None = None) -> Table:
    table = Table(title=str(reading.pipeline), title_justify="left", caption=caption, caption_justify="left")
    for name in _COLUMNS:
        table.add_column(
            name,
            justify="left" if name in _LEFT else "right",
            min_width=widest if name == "branch" else None,
        )
    for name in reading.pipeline.branch_names:
        branch = reading.branches[name]
        dead = branch.measurement.dead_letters if branch.measurement else None
        table.add_row(
            branch.name,
            or_unknown(branch.backlog),
            "?" if branch.age_seconds is None else f"{branch.age_seconds:.0f}",
            f"{branch.settled_per_second:.1f}",
            f"{branch.workers.ready}/{branch.replicas}",
            _gate(branch),
            or_unknown(dead),
            style=_style(branch, dead),
        )
    return table


def _gate(branch: BranchReading) -> str:
    if branch.closed is not None:
        return f"closed: {branch.closed.reason}"
    return f"delayed: {', '.join(sorted(branch.delayed))}" if branch.delayed else "open"


def _style(branch: BranchReading, dead: int | None) -> str | None:
    if branch.gate is GateState.DELAYED:
        return "yellow"
    return "red" if dead or branch.gate is GateState.CLOSED else None
