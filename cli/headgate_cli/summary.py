"""A run in figures: events by what became of them, since it started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.streams import PipelineMeasurement


@dataclass(frozen=True)
class Figures:
    """What became of events, of one pipeline or of several together."""

    published: int
    """Emitted ones and records of other pipelines included."""
    settled: dict[str, int]
    """By branch, dead letters included; by PIPELINE/BRANCH of several pipelines."""
    dead_lettered: int
    joined: int
    """Complete records."""
    partial: int
    """Records without all results."""

    @classmethod
    def between(cls, before: PipelineMeasurement, after: PipelineMeasurement) -> Figures:
        """Of one pipeline, from one measurement to a later one of the same branches."""
        pairs = {name: (before.branches[name], branch) for name, branch in after.branches.items()}
        return cls(
            published=after.published - before.published,
            settled={name: new.settled - old.settled for name, (old, new) in pairs.items()},
            dead_lettered=sum(new.dead - old.dead for old, new in pairs.values()),
            joined=after.joined - before.joined,
            partial=after.partial - before.partial,
        )


@dataclass(frozen=True)
class PipelineSummary:
    """One pipeline of a run in figures; `name` with its namespace, `label` as people are told of it."""

    name: str
    label: str
    figures: Figures


@dataclass(frozen=True)
class Summary:
    """A run in figures: its pipelines in the file's order, and how long it took."""

    pipelines: tuple[PipelineSummary, ...]
    seconds: float

    @property
    def whole(self) -> Figures:
        """Of all pipelines together."""
        if len(self.pipelines) == 1:
            return self.pipelines[0].figures
        each = [pipeline.figures for pipeline in self.pipelines]
        return Figures(
            published=sum(figures.published for figures in each),
            settled={
                f"{pipeline.label}/{branch}": count
                for pipeline in self.pipelines
                for branch, count in pipeline.figures.settled.items()
            },
            dead_lettered=sum(figures.dead_lettered for figures in each),
            joined=sum(figures.joined for figures in each),
            partial=sum(figures.partial for figures in each),
        )
