"""What a local run shows: a live table on a terminal, plain lines elsewhere, or one JSON object a second."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from rich.console import Console
from rich.live import Live

from headgate_cli.display_json import JsonDisplay
from headgate_cli.display_lines import LineDisplay
from headgate_cli.display_table import TableDisplay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headgate_cli.summary import Summary
    from headgate_operator.readings import PipelineReading


class Display(Protocol):
    """Where a run shows itself."""

    def say(self, text: str) -> None:
        """One line for people."""

    def show(self, readings: Sequence[PipelineReading], seconds: float) -> None:
        """The state of each pipeline, once a second; `seconds` since the run started."""

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
