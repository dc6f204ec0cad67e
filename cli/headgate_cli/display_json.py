"""A run for programs: each pipeline's state as one JSON object a second, at the end a summary of them all."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_cli.summary import Figures, Summary
    from headgate_operator.readings import BranchReading, PipelineReading


class JsonDisplay:
    """See `headgate run --help`; what people are told goes to standard error."""

    def say(self, text: str) -> None:
        """On standard error."""
        print(text, file=sys.stderr)  # noqa: T201

    def show(self, readings: Sequence[PipelineReading], seconds: float) -> None:  # noqa: ARG002 - the reader has a clock
        """One object a pipeline."""
        for reading in readings:
            self._write(
                {
                    "pipeline": str(reading.pipeline),
                    "published": None if reading.measurement is None else reading.measurement.published,
                    "branches": [_branch(reading.branches[name]) for name in reading.pipeline.branch_names],
                }
            )

    def end(self, summary: Summary) -> None:
        """The object with `summary`: all pipelines together, and each where there are several."""
        said = _figures(summary.whole) | {"seconds": round(summary.seconds, 3)}
        if len(summary.pipelines) > 1:
            said["pipelines"] = {each.name: _figures(each.figures) for each in summary.pipelines}
        self._write({"summary": said})

    def _write(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "published": figures.published,
        "settled": figures.settled,
        "deadLettered": figures.dead_lettered,
        "joined": figures.joined,
        "partial": figures.partial,
    }


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
