"""The chart's alerts: promtool takes them, each fires when it should and not otherwise, on metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cluster.test_chart import Chart
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.vitals import Vitals

if TYPE_CHECKING:
    from pathlib import Path

OF_PACK = '{namespace="shop",pipeline="orders",branch="pack",instance="INSTANCE"}'
OUTCOME = OF_PACK.replace("}", ',outcome="dead"}')
Series = dict[str, str]
CASES: dict[str, tuple[int, dict[str, Series], list[dict[str, Series]]]] = {
    # the minute by which it has come, what brings it, and what does not; two operators tell, one of them led before
    "HeadgateHasNoLeader": (
        2,
        {"headgate_operator_leader": {'{instance="a"}': "0x60", '{instance="b"}': "0x60"}},
        [{"headgate_operator_leader": {'{instance="a"}': "0x60", '{instance="b"}': "1x60"}}],
    ),
    "HeadgatePassesFail": (
        20,
        {
            "headgate_operator_reconciles_total": {
                '{outcome="problem"}': "0+6x60",
                '{outcome="clean"}': "0x60",
            }
        },
        [
            {"headgate_operator_reconciles_total": {'{outcome="clean"}': "0+6x60"}},
            {"headgate_operator_reconciles_total": {'{outcome="error"}': "0 0 1x58"}},
        ],
    ),
    "HeadgateWorkersMissing": (
        16,
        {
            "headgate_branch_replicas_ready": {OF_PACK: "2x60"},
            "headgate_branch_replicas_desired": {OF_PACK: "5x60"},
        },
        [
            {
                "headgate_branch_replicas_ready": {OF_PACK: "2x14 5x46"},
                "headgate_branch_replicas_desired": {OF_PACK: "5x60"},
            },
            {
                "headgate_branch_replicas_ready": {OF_PACK: "5x60"},
                "headgate_branch_replicas_desired": {OF_PACK: "2x60"},
            },
        ],
    ),
    "HeadgateBacklogOld": (
        6,
        {"headgate_branch_age_seconds": {OF_PACK: "901x60"}},
        [
            {"headgate_branch_age_seconds": {OF_PACK: "900x60"}},
            {
                "headgate_branch_age_seconds": {OF_PACK: "1800x60"},
                "headgate_branch_max_age_seconds": {OF_PACK: "3600x60"},
            },
        ],
    ),
    "HeadgateDeadLettersGrow": (
        11,
        {"headgate_branch_settled_total": {OUTCOME: "7x10 8x50"}},
        [
            {"headgate_branch_settled_total": {OUTCOME: "7x60"}},
            {"headgate_branch_settled_total": {OUTCOME.replace("dead", "done"): "0+9x60"}},
        ],
    ),
    "HeadgateEventsTrimmedUnread": (
        11,
        {"headgate_branch_unread_trimmed_total": {OF_PACK: "0x10 50x50"}},
        [{"headgate_branch_unread_trimmed_total": {OF_PACK: "50x60"}}],
    ),
}


@pytest.fixture(scope="module")
def rules(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as the chart makes them for an age of 900 s, for promtool."""
    (made,) = Chart(helm, "alerts.enabled=true", "alerts.oldestSeconds=900").objects("PrometheusRule")
    path = tmp_path_factory.mktemp("alerts") / "rules.yaml"
    path.write_text(json.dumps(made["spec"]))
    return path


def alerts(rules: Path) -> list[dict[str, Any]]:
    (group,) = json.loads(rules.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def promtool(*arguments: str) -> tuple[bool, str]:
    """Whether it is content, and what it says."""
    program = shutil.which("promtool")
    assert program, "promtool is not on PATH; Debian: apt-get install prometheus"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def fires(rules: Path, alert: str, minute: int, series: dict[str, Series]) -> bool:
    """Whether it is firing at that minute, by `promtool test rules`."""
    told = [
        {"series": name + labels.replace("INSTANCE", instance), "values": values}
        for name, each in series.items()
        for labels, values in each.items()
        for instance in (("a", "b") if "INSTANCE" in labels else ("",))
    ]
    # That it does not fire is what is expected: promtool complains when it does.
    asked = {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
    test = {"interval": "1m", "input_series": told, "alert_rule_test": [asked]}
    path = rules.with_name("tests.json")
    path.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}))
    silent, said = promtool("test", "rules", str(path))
    assert silent or f"alertname: {alert}" in said, said
    return not silent


def test_promtool_takes_the_rules(rules: Path) -> None:
    content, said = promtool("check", "rules", str(rules))
    assert content, said
    assert f"{len(CASES)} rules found" in said


def test_every_alert_has_its_cases(rules: Path) -> None:
    assert {rule["alert"] for rule in alerts(rules)} == CASES.keys()


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_not_otherwise(rules: Path, alert: str) -> None:
    minute, bad, good = CASES[alert]
    assert fires(rules, alert, minute, bad)
    for series in good:
        assert not any(fires(rules, alert, at, series) for at in (5, minute, 20, 50))


def test_a_branch_that_says_how_old_events_may_get_is_held_to_that(rules: Path) -> None:
    told = {
        "headgate_branch_age_seconds": {OF_PACK: "31x60"},
        "headgate_branch_max_age_seconds": {OF_PACK: "30x60"},
    }
    assert fires(rules, "HeadgateBacklogOld", 6, told)


def test_no_leader_is_told_too_when_nobody_is_scraped(rules: Path) -> None:
    assert fires(rules, "HeadgateHasNoLeader", 2, {"up": {"{}": "1x60"}})


def test_every_metric_of_an_alert_is_exposed(rules: Path) -> None:
    families = [*ReadingsCollector(list).collect(), *Vitals().collect()]
    exposed = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    asked = {name for rule in alerts(rules) for name in re.findall(r"headgate_\w+", rule["expr"])}
    assert asked <= exposed


def test_there_are_no_alerts_unless_they_are_asked_for(helm: str) -> None:
    assert Chart(helm).objects("PrometheusRule") == []
    (made,) = Chart(helm, "alerts.enabled=true", "alerts.labels.release=monitoring").objects("PrometheusRule")
    assert made["metadata"]["labels"]["release"] == "monitoring"
