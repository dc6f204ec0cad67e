"""What a local run shows: a live table on a terminal, plain lines elsewhere, or one JSON object a second."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table

from headgate_operator.api import GateState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate_operator.readings import BranchReading, PipelineReading


@dataclass(frozen=True)
class Summary:
    """A run in figures: events by what became of them, since it started."""

    published: int
    settled: dict[str, int]
    """By branch, dead letters included."""
    dead_lettered: int
    joined: int
    """Complete records."""
    partial: int
    """Records without all results."""
    seconds: float


class Display(Protocol):
    """Where a run shows itself."""

    def say(self, text: str) -> None:
        """One line for people."""

    def show(self, reading: PipelineReading, seconds: float) -> None:
        """The state, once a second; `seconds` since the run started."""

    def end(self, summary: Summary) -> None:
        """The last word."""


@contextmanager
def choose(*, json_lines: bool) -> Iterator[Display]:
    """The display that fits where standard output goes; logs go to standard error, warnings and worse."""
    _log_to(_Stderr())
    if json_lines:
        yield JsonDisplay()
    elif sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:
            yield TableDisplay(live)
    else:
        yield LineDisplay()


class JsonDisplay:
    """For programs: see `headgate run --help`; what people are told goes to standard error."""

    def say(self, text: str) -> None:
        """On standard error."""
        print(text, file=sys.stderr)  # noqa: T201

    def show(self, reading: PipelineReading, seconds: float) -> None:  # noqa: ARG002 - the reader has a clock
        """One object."""
        self._write(
            {
                "pipeline": str(reading.pipeline),
                "published": None if reading.measurement is None else reading.measurement.published,
                "branches": [_branch(b) for b in _in_order(reading)],
            }
        )

    def end(self, summary: Summary) -> None:
        """The object with `summary`."""
        figures = {
            "published": summary.published,
            "settled": summary.settled,
            "deadLettered": summary.dead_lettered,
            "joined": summary.joined,
            "partial": summary.partial,
            "seconds": round(summary.seconds, 3),
        }
        self._write({"summary": figures})

    def _write(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


class LineDisplay:
    """One line whenever something changed."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, text: str) -> None:
        """As it is."""
        print(text, flush=True)  # noqa: T201

    def show(self, reading: PipelineReading, seconds: float) -> None:
        """Figures of the pipeline and each branch, unless they are those of the line before."""
        parts = [_headline(reading)]
        for branch in _in_order(reading):
            gate = "" if branch.gate is GateState.OPEN else f"  gate {branch.gate.lower()}"
            dead = branch.measurement.dead_letters if branch.measurement else None
            parts.append(
                f"{branch.name}: backlog {_or_unknown(branch.backlog)}  {branch.settled_per_second:.1f}/s"
                f"  workers {branch.workers.ready}/{branch.replicas}{gate}"
                + (f"  dead {dead}" if dead else "")
            )
        line = " | ".join(parts)
        if line != self._last:
            self._last = line
            self.say(f"{seconds:5.0f} s  {line}")

    def end(self, summary: Summary) -> None:
        """The figures in a sentence."""
        self.say(_sentence(summary))


class TableDisplay:
    """A table that stays in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def say(self, text: str) -> None:
        """Above the table."""
        self._live.console.print(text, highlight=False, markup=False)

    def show(self, reading: PipelineReading, seconds: float) -> None:
        """The table anew."""
        table = Table(title=str(reading.pipeline), title_justify="left", caption_justify="left")
        table.caption = f"{seconds:.0f} s  {_headline(reading)}"
        for name in ("branch", "backlog", "age s", "settled/s", "workers", "gate", "dead letters"):
            table.add_column(name, justify="left" if name in {"branch", "gate"} else "right")
        for branch in _in_order(reading):
            dead = branch.measurement.dead_letters if branch.measurement else None
            table.add_row(
                branch.name,
                _or_unknown(branch.backlog),
                "?" if branch.age_seconds is None else f"{branch.age_seconds:.0f}",
                f"{branch.settled_per_second:.1f}",
                f"{branch.workers.ready}/{branch.replicas}",
                _gate(branch),
                _or_unknown(dead),
                style=_style(branch, dead),
            )
        self._live.update(table, refresh=True)

    def end(self, summary: Summary) -> None:
        """Below the table."""
        self._live.stop()
        self._live.console.print(_sentence(summary), highlight=False)


def _in_order(reading: PipelineReading) -> list[BranchReading]:
    return [reading.branches[name] for name in reading.pipeline.branch_names]


def _gate(branch: BranchReading) -> str:
    if branch.closed is not None:
        return f"closed: {branch.closed.reason}"
    return f"delayed: {', '.join(sorted(branch.delayed))}" if branch.delayed else "open"


def _style(branch: BranchReading, dead: int | None) -> str | None:
    if branch.gate is GateState.DELAYED:
        return "yellow"
    return "red" if dead or branch.gate is GateState.CLOSED else None


def _branch(branch: BranchReading) -> dict[str, Any]:
    age = branch.age_seconds
    return {
        "name": branch.name,
        "backlog": branch.backlog,
        "ageSeconds": None if age is None else round(age, 3),
        "settledPerSecond": round(branch.settled_per_second, 2),
        "replicas": branch.replicas,
        "reason": None if branch.decision is None else branch.decision.reason,
        "because": None if branch.decision is None else branch.decision.sentence,
        "gate": branch.gate.lower(),
        "deadLetters": None if branch.measurement is None else branch.measurement.dead_letters,
    }


def _headline(reading: PipelineReading) -> str:
    found = reading.measurement
    if found is None:
        return f"unknown: {reading.error or 'the server cannot tell'}"
    text = f"published {found.published} ({reading.published_per_second:.1f}/s)"
    if reading.pipeline.spec.join is not None:
        text += f"  joined {found.joined}" + (f"  partial {found.partial}" if found.partial else "")
    if reading.level:
        text += f"  level {reading.level}"
    return text + (f"  {reading.error}" if reading.error else "")


def _or_unknown(value: int | None) -> str:
    return "?" if value is None else str(value)


def _sentence(summary: Summary) -> str:
    settled = ", ".join(f"{name} {count}" for name, count in summary.settled.items())
    partial = f", {summary.partial} partially" if summary.partial else ""
    return (
        f"{summary.seconds:.1f} s: {summary.published} published; settled: {settled};"
        f" {summary.joined} joined{partial}, {summary.dead_lettered} dead-lettered"
    )


class _Stderr:
    """Standard error as it is when written to: a live table replaces it to keep log lines above itself."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _log_to(file: Any) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.WriteLoggerFactory(file=file),
    )
