"""What no schema can tell of a manifest is told when it is applied: field, value and remedy, by every way in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate_cli.manifests import mistakes as told
from headgate_operator.api import FanoutPipelineStatus
from headgate_operator.expressions import LARGEST_SCHEMA_BYTES, mistakes
from headgate_operator.reconcile import reconcile
from headgate_operator.scene import Scene
from headgate_operator.status import compose
from unit.pipelines import manifest

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BEFORE = FanoutPipelineStatus()
MANIFESTS = Path(__file__).parents[1] / "data" / "manifests"
URL = {"http": {"url": "https://hooks.example", "allowNetworks": ["10.0.0.0/8", "10.0.0.1/8"]}}
WRONG: dict[str, dict[str, Any]] = {
    "spec.source.schema": manifest(source={"schema": {"type": "objekt"}}),
    "spec.branches[0].filter": manifest({"filter": "event.type = 'a'"}),
    "spec.branches[0].startAt": manifest({"startAt": "2026-02-30T12:00:00Z"}),
    "spec.branches[0].retry.rules[1].match": manifest({"retry": {"rules": [{"match": "a"}, {"match": "("}]}}),
    "spec.branches[0].handler.http.allowNetworks[1]": manifest({"handler": URL}),
}


class Nothing:
    """A substrate that must not be asked."""

    async def apply(self, _pipeline):
        pytest.fail("applied")


class Untouched:
    """A server that must not be asked."""

    def __getattr__(self, name):
        pytest.fail(f"the server was asked: {name}")


async def connected(_pipeline):
    return Untouched()


@pytest.mark.parametrize(("field", "wrong"), WRONG.items(), ids=WRONG)
def test_what_does_not_compile_is_told_with_field_value_and_remedy(field, wrong):
    (mistake,) = mistakes(wrong)
    assert mistake.field == field
    assert str(mistake).startswith(f"{field}: Invalid value: ")
    assert len(str(mistake)) > len(f"{field}: Invalid value: ") + 10
    assert mistake.remedy


@pytest.mark.parametrize(("field", "wrong"), WRONG.items(), ids=WRONG)
async def test_the_operator_says_so_in_its_status_and_applies_nothing(field, wrong):
    findings = await reconcile(wrong, substrate=Nothing(), connect=connected)
    assert findings.pipeline.is_held
    status = compose(Scene(findings, None, BEFORE, NOW))
    (condition,) = [each for each in status.conditions if each.type == "SpecValid"]
    assert (condition.status, condition.reason) == ("False", "Invalid")
    assert condition.message.startswith(f"{field}: Invalid value: ")
    assert condition.message.endswith(mistakes(wrong)[0].remedy)


def test_a_local_run_tells_them_beside_the_api_servers_own_and_none_twice():
    wrong = manifest({"filter": "event.typ", "concurrency": 0, "startAt": "2026-02-30"})
    said = told(Path("pipeline.yaml"), [wrong])
    assert [line.split(": ")[1] for line in said] == [
        "spec.branches[0].concurrency",
        "spec.branches[0].startAt",
        "spec.branches[0].filter",
    ]


def test_everything_compiles():
    assert mistakes(yaml.safe_load((MANIFESTS / "everything.yaml").read_text())) == []


def test_a_schema_that_no_worker_could_be_given_is_refused():
    long = {"description": "x" * LARGEST_SCHEMA_BYTES}
    (mistake,) = mistakes(manifest(source={"schema": long}))
    assert "65536" in mistake.message
    assert len(mistake.message) < 400


@pytest.mark.parametrize("name", ["ten-mistakes", "ten-broken-rules", "unknown-fields", "odd-values"])
def test_what_is_no_manifest_at_all_is_passed_over(name):
    mistakes(yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text()))
    assert mistakes({"spec": {"branches": [None, {"retry": {"rules": 3}, "filter": 5}], "source": "x"}}) == []
