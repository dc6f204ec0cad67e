"""The rules for prometheus-adapter in docs/guides/engines.md, on a real Prometheus that scrapes the operator."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

from headgate_operator import engines
from headgate_operator.metrics import ReadingsCollector
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.substrates import Workers
from streams.prometheus import prometheus
from unit.pipelines import pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.prometheus import Prometheus

GUIDE = Path(__file__).parents[2] / "docs/guides/engines.md"
WAIT_SECONDS = 60
WANTED = {"pack": 13, "ship": 0}


def rules() -> list[dict[str, Any]]:
    """The adapter's rules as the guide has them."""
    (block,) = re.findall(r"```yaml\n(externalRules:.*?)```", GUIDE.read_text(), re.DOTALL)
    found: list[dict[str, Any]] = yaml.safe_load(block)["externalRules"]
    return found


def query(rule: dict[str, Any], series: str, labels: dict[str, str]) -> str:
    """What prometheus-adapter asks Prometheus: its template, filled in; any other placeholder stays and fails."""
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.LabelMatchers>>", matchers)


def readings() -> list[PipelineReading]:
    branches = {
        name: BranchReading(
            name=name,
            measurement=None,
            workers=Workers(),
            replicas=replicas,
            delayed=frozenset(),
            settled_per_second=0,
        )
        for name, replicas in WANTED.items()
    }
    spec = [{"name": name, "scale": {"engine": "Hpa"}} for name in WANTED]
    return [
        PipelineReading(
            pipeline=pipeline(*spec), measurement=None, branches=branches, level="", published_per_second=0
        )
    ]


@pytest.fixture(scope="module")
def scraped() -> Iterator[Prometheus]:
    """Prometheus beside two operators that expose the same: one that led until a moment ago, and the one that leads."""
    registry = CollectorRegistry()
    registry.register(ReadingsCollector(readings))

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            port = self.server.server_address[1]
            targets = [{"targets": [f"127.0.0.1:{port}", f"localhost:{port}"]}]
            is_metrics = self.path == "/metrics"
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST if is_metrics else "application/json")
            self.end_headers()
            self.wfile.write(generate_latest(registry) if is_metrics else json.dumps(targets).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with prometheus(f"http://127.0.0.1:{server.server_address[1]}/targets") as started:
            yield started
        server.shutdown()


@pytest.mark.parametrize("branch", WANTED)
def test_an_autoscalers_metric_is_found_by_the_documented_rules_once_and_with_its_value(scraped, branch):
    (rule,) = rules()
    found = wait_for(scraped, rule["seriesQuery"], 2 * len(WANTED))
    series = {labels.pop("__name__") for labels, _ in found}
    given = {
        item["metadata"]["labels"]["headgate.dev/branch"]: item
        for item in engines.manifests(readings()[0].pipeline, None)
    }
    metric = given[branch]["spec"]["metrics"][0]["external"]["metric"]
    assert series == {metric["name"]}
    overrides = rule["resources"]["overrides"]
    assert all(label in labels for labels, _ in found for label in overrides)
    selected = metric["selector"]["matchLabels"] | {
        label: given[branch]["metadata"]["namespace"]
        for label, resource in overrides.items()
        if resource == {"resource": "namespace"}
    }
    assert set(selected) == {"namespace", "pipeline", "branch"}
    (answer,) = scraped.query(query(rule, metric["name"], selected))
    assert answer == ({}, WANTED[branch])


def test_the_rules_template_has_no_placeholder_that_the_adapter_does_not_know():
    (rule,) = rules()
    known = {"<<.Series>>", "<<.LabelMatchers>>", "<<.LabelValuesByName>>", "<<.GroupBy>>"}
    assert set(re.findall(r"<<[^>]*>>", rule["metricsQuery"])) <= known


def wait_for(scraped: Prometheus, expression: str, count: int) -> list[tuple[dict[str, str], float]]:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(found := scraped.query(expression)) < count:
        assert time.monotonic() < deadline, f"{found}; targets: {scraped.targets()}"
        time.sleep(0.2)
    return found
