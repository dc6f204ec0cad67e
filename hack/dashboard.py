"""The Grafana dashboard, from a list of panels; `make generate` writes it into the chart.

A small builder of our own: places on the grid, ids and everything Grafana wants to be told twice come from here.
"""

from __future__ import annotations

import json
from typing import Any

from panel import Kind, Panel
from panels import ROWS

GRID_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


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
    defaults: dict[str, Any] = {"unit": panel.unit.value} | (
        {} if panel.least is None else {"min": panel.least}
    )
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
