"""The words of a run for people, in a table or in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_cli.summary import Figures, Summary
    from headgate_operator.readings import PipelineReading


def headline(reading: PipelineReading) -> str:
    """A pipeline's own figures."""
    found = reading.measurement
    if found is None:
        return f"unknown: {reading.error or 'the server cannot tell'}"
    text = f"published {found.published} ({reading.published_per_second:.1f}/s)"
    if reading.pipeline.spec.join is not None:
        text += f"  joined {found.joined}" + (f"  partial {found.partial}" if found.partial else "")
    if reading.level:
        text += f"  level {reading.level}"
    return text + (f"  {reading.error}" if reading.error else "")


def or_unknown(value: int | None) -> str:
    """A figure; `?` where nobody can tell."""
    return "?" if value is None else str(value)


def closing(summary: Summary) -> list[str]:
    """How it ended: a line, or one a pipeline where there are several."""
    seconds = f"{summary.seconds:.1f} s:"
    if len(summary.pipelines) == 1:
        return [f"{seconds} {_sentence(summary.whole)}"]
    return [seconds, *(f"  {each.label}: {_sentence(each.figures)}" for each in summary.pipelines)]


def _sentence(figures: Figures) -> str:
    settled = ", ".join(f"{name} {count}" for name, count in figures.settled.items())
    partial = f", {figures.partial} partially" if figures.partial else ""
    return (
        f"{figures.published} published; settled: {settled};"
        f" {figures.joined} joined{partial}, {figures.dead_lettered} dead-lettered"
    )
