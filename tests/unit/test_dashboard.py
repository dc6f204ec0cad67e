"""The dashboard says what it shows, in which unit, and asks only for metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from dashboard import GRID_WIDTH, dashboard, queries
from metrics import labels_of, operator_families, own_families, worker_families
from panels import ROWS

PANELS = [panel for row in ROWS for panel in row.panels]


SERIES_OF = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}
OF_THE_OPERATOR = ("headgate_operator_", "headgate_pilot_")  # these know no pipeline


def exposed_series() -> dict[str, set[str]]:
    """Every series the operator and the workers expose, with its labels."""
    return {
        family.name + suffix: {*labels_of(family), *(["le"] if suffix == "_bucket" else [])}
        for family in (*operator_families(), *own_families(), *worker_families())
        for suffix in SERIES_OF[family.type]
    }


@pytest.fixture(scope="module")
def drawn() -> dict:
    return json.loads(dashboard())


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_panel_has_a_description_a_unit_and_legends(panel):
    assert panel.description.endswith(".")
    assert panel.unit
    assert panel.queries
    assert all(query.legend for query in panel.queries)


@pytest.mark.parametrize("expression", queries())
def test_every_query_shows_only_the_chosen_namespace_and_pipeline(expression):
    selectors = re.findall(r"(headgate_\w+)(\{[^}]*\})?", expression)
    assert selectors
    for name, selector in selectors:
        if name.startswith(OF_THE_OPERATOR):
            continue
        assert 'namespace=~"$namespace"' in selector
        assert 'pipeline=~"$pipeline"' in selector


@pytest.mark.parametrize("expression", queries())
def test_every_metric_is_exposed_and_has_the_labels_it_is_grouped_by(expression):
    series = exposed_series()
    groups = re.search(r"by \(([^)]*)\)", expression)
    grouped = {*(groups[1].split(", ") if groups else ())}
    for name in re.findall(r"headgate_\w+", expression):
        assert name in series
        assert grouped <= series[name]
        assert name.startswith(OF_THE_OPERATOR) or {"namespace", "pipeline"} <= series[name]


def test_every_exposed_metric_is_on_the_dashboard():
    shown = set(re.findall(r"headgate_\w+", " ".join(queries())))
    exposed = {name for name in exposed_series() if not name.endswith(("_sum", "_count"))}
    assert exposed == shown


def test_panels_do_not_overlap_and_stay_on_the_grid(drawn):
    taken: set[tuple[int, int]] = set()
    for panel in drawn["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= GRID_WIDTH, panel["title"]
        taken |= cells


def test_ids_differ(drawn):
    ids = [panel["id"] for panel in drawn["panels"]]
    assert len(set(ids)) == len(ids)


def test_variables_let_one_choose_data_source_namespace_and_pipeline(drawn):
    names = [variable["name"] for variable in drawn["templating"]["list"]]
    assert names == ["datasource", "namespace", "pipeline"]


def test_promtool_accepts_every_query(tmp_path):
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not on PATH; Debian: apt-get install prometheus"
    rules = [
        {"record": f"panel:query:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(queries())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
