"""The Grafana dashboard, from a list of panels; `make generate` writes it into the chart.

A small builder of our own: a panel is a title, what it tells and in which unit, and its queries. Places on the grid,
ids and everything Grafana wants to be told twice come from here. Branches are told apart by `pipeline / branch`
because one dashboard shows any number of pipelines.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

GRID_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
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


ROWS = (
    Row(
        "Overview",
        (
            Panel(
                "Backlog",
                "Events not settled yet by every branch that gets them: not delivered, in a worker's hands, or waiting"
                " for a retry. Near zero is healthy; growing means workers do not keep up.",
                Unit.EVENTS,
                (Query(f"sum({metric('headgate_branch_backlog_events')})", "backlog"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Oldest event",
                "Age of the oldest event that some branch has not settled. This, not the backlog, is what users wait.",
                Unit.SECONDS,
                (Query(f"max({metric('headgate_branch_age_seconds')})", "age"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Published",
                "Events published a second.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum({rate('headgate_pipeline_published_total')})", "published"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Settled",
                "Deliveries a second that reached an end, done or dead-lettered, summed over branches: with three"
                " branches three times what is published.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum({rate('headgate_branch_settled_total')})", "settled"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Workers ready",
                "Workers ready, over all branches.",
                Unit.PROCESSES,
                (Query(f"sum({metric('headgate_branch_replicas_ready')})", "ready"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
            Panel(
                "Dead letters",
                "Events that used up their attempts or failed for good, and wait for somebody to look at them."
                " Should be zero.",
                Unit.EVENTS,
                (Query(f"sum({metric('headgate_branch_dead_letters')})", "dead letters"),),
                Kind.NUMBER,
                width=4,
                height=4,
            ),
        ),
    ),
    Row(
        "Lag and throughput",
        (
            Panel(
                "Backlog a branch",
                "Undelivered, pending and delayed events of each branch. A gap: it could not be measured.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_branch_backlog_events')})", BRANCH),),
            ),
            Panel(
                "Lag a branch",
                "Events no worker of the branch has been given yet.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_branch_lag_events')})", BRANCH),),
            ),
            Panel(
                "Age of the oldest event",
                "Seconds since the oldest unsettled event of each branch was published.",
                Unit.SECONDS,
                (Query(f"max {BY_BRANCH} ({metric('headgate_branch_age_seconds')})", BRANCH),),
            ),
            Panel(
                "Settled a branch",
                "Events a second each branch settled, by outcome: done, dead (dead-lettered), or filtered (the"
                " branch's filter left them out).",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (namespace, pipeline, branch, outcome) ({rate('headgate_branch_settled_total')})",
                        BRANCH + " {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Pending and delayed",
                "Pending: in a worker's hands. Delayed: failed, and waiting for the next attempt.",
                Unit.EVENTS,
                (
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_pending_events')})", f"pending {BRANCH}"
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_delayed_events')})", f"delayed {BRANCH}"
                    ),
                ),
            ),
            Panel(
                "Retries",
                "Attempts a second that failed and will be repeated after their delay.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_branch_retried_total')})", BRANCH),),
            ),
        ),
    ),
    Row(
        "Replicas",
        (
            Panel(
                "Replicas desired and ready",
                "What the pilot asked for, and what is ready to work. A lasting difference: look at the pods.",
                Unit.PROCESSES,
                (
                    Query(
                        f"sum {BY_BRANCH} ({metric('headgate_branch_replicas_desired')})", f"desired {BRANCH}"
                    ),
                    Query(f"sum {BY_BRANCH} ({metric('headgate_branch_replicas_ready')})", f"ready {BRANCH}"),
                ),
            ),
            Panel(
                "In flight",
                "Events in handlers now, summed over a branch's workers. Near concurrency times replicas means busy.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_worker_in_flight_events')})", BRANCH),),
            ),
            Panel(
                "Attempts by outcome",
                "What workers report a second: done, retried, dead, filtered out, parked behind a key, or fenced"
                " (another worker had taken over).",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (namespace, pipeline, branch, outcome) ({rate('headgate_worker_events_total')})",
                        BRANCH + " {{outcome}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Gates",
        (
            Panel(
                "Gate a branch",
                "Open: every lane flows. Delayed: lanes the crossed level names wait, up to maxDelaySeconds. Closed:"
                " the target is gone for good, and everything waits until somebody opens the branch.",
                Unit.EVENTS,
                (Query(f"max {BY_BRANCH} ({metric('headgate_branch_gate')})", BRANCH),),
                Kind.STATES,
                width=16,
                states={0: "open", 1: "delayed", 2: "closed"},
            ),
            Panel(
                "Backpressure level",
                "Which level is crossed, counted from 1 in the order of spec.backpressure.levels; 0 is none.",
                Unit.PROCESSES,
                (Query(f"max {BY_PIPELINE} ({metric('headgate_pipeline_level')})", "{{pipeline}}"),),
            ),
        ),
    ),
    Row(
        "Workers, their server and their targets",
        (
            Panel(
                "Events a settle",
                "Events that one script settles together: median and 99th percentile. It grows with the load; 1 under"
                " load means that each outcome waits for the server.",
                Unit.EVENTS,
                p50_p99("headgate_worker_settle_batch_events"),
            ),
            Panel(
                "Taken over",
                "Events a second that were taken over from workers that died.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_worker_claimed_events_total')})", BRANCH),),
            ),
            Panel(
                "Trouble with the server",
                "A second: reads and heartbeats the server left unanswered or refused, and leases that were lost over"
                " it. What is held under a lost lease is done again by others.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_worker_server_failures_total')})",
                        f"failures {BRANCH}",
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_worker_lost_leases_total')})",
                        f"lost leases {BRANCH}",
                    ),
                ),
            ),
            Panel(
                "Circuit breaker",
                "The worst of a branch's workers. Open: the target failed again and again, and is left alone a while.",
                Unit.PROCESSES,
                (Query(f"max {BY_BRANCH} ({metric('headgate_worker_breaker')})", BRANCH),),
                Kind.STATES,
                states={0: "closed", 1: "half-open", 2: "open"},
            ),
            Panel(
                "Pause of the target",
                "Seconds until the target may be called again: it asked for a pause, or its circuit breaker is open.",
                Unit.SECONDS,
                (Query(f"max {BY_BRANCH} ({metric('headgate_worker_pause_seconds')})", BRANCH),),
            ),
            Panel(
                "Effects elsewhere",
                "Effects a second on other partitions and pipelines, which a relay brings there.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_worker_outboxed_effects_total')})", BRANCH),),
            ),
        ),
    ),
    Row(
        "From publish to result",
        (
            Panel(
                "End to end",
                "Seconds from publish to settled, each branch: median and 99th percentile.",
                Unit.SECONDS,
                p50_p99("headgate_worker_end_to_end_seconds"),
            ),
            Panel(
                "Waiting for a worker",
                "Seconds from publish to the start of the handler: median and 99th percentile.",
                Unit.SECONDS,
                p50_p99("headgate_worker_queue_seconds"),
            ),
            Panel(
                "In the handler",
                "Seconds a handler took for one attempt: median and 99th percentile.",
                Unit.SECONDS,
                p50_p99("headgate_worker_handler_seconds"),
            ),
            Panel(
                "Published",
                "Events published a second, each pipeline.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_PIPELINE} ({rate('headgate_pipeline_published_total')})", "{{pipeline}}"),),
            ),
            Panel(
                "Joined",
                "Final records a second: complete, or partial (a branch was missing at the time-out or had failed)."
                " Empty for pipelines without a join.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum by (namespace, pipeline, completeness) ({rate('headgate_pipeline_joined_total')})",
                        "{{pipeline}} {{completeness}}",
                    ),
                ),
            ),
            Panel(
                "Dead letters a branch",
                "Events that used up their attempts or failed for good. They stay until somebody redrives or purges"
                " them.",
                Unit.EVENTS,
                (Query(f"sum {BY_BRANCH} ({metric('headgate_branch_dead_letters')})", BRANCH),),
            ),
        ),
    ),
    Row(
        "Lost, tried again, on the way",
        (
            Panel(
                "Lost to retention",
                "Events a second that went before a branch had settled them, because the source was full"
                " (retention.maxEvents) or they were too old (maxAgeSeconds); and dead letters that went because there"
                " were too many. Should be zero.",
                Unit.EVENTS_PER_SECOND,
                (
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_branch_unread_trimmed_total')})",
                        f"unsettled {BRANCH}",
                    ),
                    Query(
                        f"sum {BY_BRANCH} ({rate('headgate_branch_dead_letters_dropped_total')})",
                        f"dead letters {BRANCH}",
                    ),
                ),
            ),
            Panel(
                "Redriven",
                "Dead letters a second that somebody had tried again.",
                Unit.EVENTS_PER_SECOND,
                (Query(f"sum {BY_BRANCH} ({rate('headgate_branch_redriven_total')})", BRANCH),),
            ),
            Panel(
                "Outbox",
                "Events that handlers or the join emitted and that have not reached their pipeline yet. Near zero is"
                " healthy; growing means the relay does not get through, or their pipeline does not exist.",
                Unit.EVENTS,
                (Query(f"sum {BY_PIPELINE} ({metric('headgate_pipeline_outbox_entries')})", "{{pipeline}}"),),
            ),
        ),
    ),
)


def dashboard() -> str:
    """The dashboard as JSON text."""
    drawn: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        drawn.append(_row(row.title, y))
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > GRID_WIDTH:
                y, x, tallest = y + tallest, 0, 0
            drawn.append(_panel(panel, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    for number, each in enumerate(drawn, 1):
        each["id"] = number
    whole = {
        "uid": "headgate",
        "title": "Headgate",
        "description": "Fan-out pipelines: backlog and throughput of every branch, replicas, gates, latency.",
        "tags": ["headgate", "redis-streams"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_datasource_variable(), *_label_variables()]},
        "panels": drawn,
    }
    return json.dumps(whole, indent=2) + "\n"


def queries() -> tuple[str, ...]:
    """Every panel's expressions, in order."""
    return tuple(query.expression for row in ROWS for panel in row.panels for query in panel.queries)


def _row(title: str, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": GRID_WIDTH, "x": 0, "y": y}
    return {"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit.value, "min": 0}
    options: dict[str, Any] = {}
    if panel.kind is Kind.LINES:
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind is Kind.NUMBER:
        options = {"graphMode": "area", "colorMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    elif panel.kind is Kind.STATES:
        options = {"mergeValues": True, "rowHeight": 0.8, "legend": {"showLegend": False}}
        names = {str(value): {"text": name, "index": value} for value, name in panel.states.items()}
        defaults["mappings"] = [{"type": "value", "options": names}]
    return {
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "expr": query.expression,
                "legendFormat": query.legend,
                "datasource": DATASOURCE,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _label_variables() -> list[dict[str, Any]]:
    source = "headgate_branch_backlog_events"
    return [
        _label_variable("namespace", f"label_values({source}, namespace)"),
        _label_variable("pipeline", f'label_values({source}{{namespace=~"$namespace"}}, pipeline)'),
    ]


def _label_variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }
