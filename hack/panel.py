"""What a panel of the dashboard is, and the few forms of query that all of them have.

A panel is a title, what it tells and in which unit, and its queries. Branches are told apart by `pipeline / branch`
because one dashboard shows any number of pipelines.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

WHERE = 'namespace=~"$namespace",pipeline=~"$pipeline"'
BRANCH = "{{pipeline}} / {{branch}}"
BY_BRANCH = "by (namespace, pipeline, branch)"
BY_PIPELINE = "by (namespace, pipeline)"


class Kind(enum.StrEnum):
    """How a panel draws, in Grafana's own words."""

    LINES = "timeseries"
    NUMBER = "stat"
    STATES = "state-timeline"


class Unit(enum.StrEnum):
    """Grafana's names of units."""

    EVENTS = "short"
    EVENTS_PER_SECOND = "cps"
    SECONDS = "s"
    PROCESSES = "none"


@dataclass(frozen=True)
class Query:
    """One PromQL expression and what its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel: `description` says what it shows and what to make of it."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    states: dict[int, str] = field(default_factory=dict)
    """Names of the values, for STATES."""
    least: int | None = 0
    """Where the axis begins; None where values fall below zero."""


@dataclass(frozen=True)
class Row:
    """A headline and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


def metric(name: str, *matchers: str) -> str:
    """A metric of the chosen pipelines."""
    return f"{name}{{{','.join((WHERE, *matchers))}}}"


def rate(name: str, *matchers: str) -> str:
    """Growth a second of a counter of the chosen pipelines."""
    return f"rate({metric(name, *matchers)}[$__rate_interval])"


def quantile(q: float, histogram: str) -> str:
    """A quantile of a histogram, a branch at a time."""
    return (
        f"histogram_quantile({q}, sum by (namespace, pipeline, branch, le) ({rate(histogram + '_bucket')}))"
    )


def p50_p99(histogram: str) -> tuple[Query, Query]:
    """Median and 99th percentile of a histogram, a branch at a time."""
    return (
        Query(quantile(0.5, histogram), f"p50 {BRANCH}"),
        Query(quantile(0.99, histogram), f"p99 {BRANCH}"),
    )


def own_rate(name: str) -> str:
    """Growth a second of a counter of the operator's own."""
    return f"rate({name}[$__rate_interval])"


def own_quantile(q: float, histogram: str) -> str:
    """A quantile of a histogram of the operator's own, over all its processes."""
    return f"histogram_quantile({q}, sum by (le) ({own_rate(histogram + '_bucket')}))"
