"""A run where nobody looks at a terminal: one line a pipeline, whenever something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_cli.display_text import closing, headline, or_unknown
from headgate_operator.api import GateState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_cli.summary import Summary
    from headgate_operator.readings import PipelineReading


class LineDisplay:
    """One line a pipeline whenever something changed."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def say(self, text: str) -> None:
        """As it is."""
        print(text, flush=True)  # noqa: T201

    def show(self, readings: Sequence[PipelineReading], seconds: float) -> None:
        """Figures of each pipeline and its branches, unless they are those of the line before."""
        for reading in readings:
            name = str(reading.pipeline)
            line = _line(reading) if len(readings) == 1 else f"{name}: {_line(reading)}"
            if line != self._last.get(name):
                self._last[name] = line
                self.say(f"{seconds:5.0f} s  {line}")

    def end(self, summary: Summary) -> None:
        """The figures in a sentence, one a pipeline."""
        self.say("\n".join(closing(summary)))


def _line(reading: PipelineReading) -> str:
    parts = [headline(reading)]
    for name in reading.pipeline.branch_names:
        branch = reading.branches[name]
        gate = "" if branch.gate is GateState.OPEN else f"  gate {branch.gate.lower()}"
        dead = branch.measurement.dead_letters if branch.measurement else None
        parts.append(
            f"{branch.name}: backlog {or_unknown(branch.backlog)}  {branch.settled_per_second:.1f}/s"
            f"  workers {branch.workers.ready}/{branch.replicas}{gate}" + (f"  dead {dead}" if dead else "")
        )
    return " | ".join(parts)
