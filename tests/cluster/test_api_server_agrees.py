"""A run on this machine refuses a manifest in the words of a real API server, and explains what that explains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings

from cluster.apiserver import ApiServer
from headgate_operator.crd import crd, schema
from headgate_operator.validation import Kind, validate
from unit.specs import specs

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFESTS = Path(__file__).parents[1] / "data" / "manifests"


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows the CRD."""
    server = ApiServer(tmp_path_factory.mktemp("api-server"))
    server.start()
    try:
        applied = server.kubectl("apply", "-f", "-", given=crd())
        assert applied.returncode == 0, applied.stderr
        name = f"crd/{crd()['metadata']['name']}"
        assert server.kubectl("wait", "--for=condition=Established", name).returncode == 0
        server.await_explained("fanoutpipeline")
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["ten-mistakes", "ten-broken-rules", "odd-values"])
def test_every_mistake_is_told_in_the_same_words(api_server, name):
    manifest = read(name)
    refused = api_server.kubectl("create", "--validate=ignore", "-f", "-", given=manifest)
    theirs, ours = refusals(refused.stderr), validate(manifest)
    assert {str(error) for error in ours if error.kind is not Kind.UNKNOWN} == theirs
    assert len(theirs) >= 10
    assert all(error.remedy for error in ours)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs())
@example(spec=-(2**63))
@example(spec=-(2**63) - 1)
@example(spec=2**63)
def test_manifests_nobody_would_write_are_refused_in_the_same_words(api_server, spec):
    manifest = read("everything") | {"spec": spec}
    refused = api_server.kubectl("create", "--dry-run=server", "--validate=ignore", "-f", "-", given=manifest)
    ours = {str(error) for error in validate(manifest) if error.kind is not Kind.UNKNOWN}
    assert ours == refusals(refused.stderr)


def test_unknown_fields_are_told_in_the_same_words(api_server):
    manifest = read("unknown-fields")
    refused = api_server.kubectl("create", "-f", "-", given=manifest)
    theirs = re.findall(r'unknown field "[^"]+"', refused.stderr)
    assert len(theirs) == 7
    assert {str(error) for error in validate(manifest)} == set(theirs)


def test_a_manifest_with_every_field_is_taken_by_both(api_server):
    manifest = read("everything")
    taken = api_server.kubectl("create", "--dry-run=server", "-f", "-", given=manifest)
    assert taken.returncode == 0, taken.stderr
    assert validate(manifest) == []


def test_partitions_shrink_for_neither(api_server):
    before, after = read("everything"), read("everything")
    before["metadata"]["name"] = after["metadata"]["name"] = "shrinks"
    after["spec"]["source"]["partitions"] = 3
    assert api_server.kubectl("create", "-f", "-", given=before).returncode == 0
    refused = api_server.kubectl("replace", "-f", "-", given=after)
    (ours,) = validate(after, before)
    assert str(ours) in refused.stderr
    after["spec"]["source"]["partitions"] = 8
    assert api_server.kubectl("replace", "-f", "-", given=after).returncode == 0
    assert validate(after, before) == []


def test_kubectl_explains_every_field(api_server):
    fields = list(objects("fanoutpipeline", schema()))
    assert len(fields) > 20
    for path, members in fields:
        shown = squeezed(api_server.kubectl("explain", path).stdout)
        for name, member in members.items():
            assert squeezed(member["description"]) in shown, f"{path}.{name}"


def refusals(said: str) -> set[str]:
    """The errors in what kubectl says of a refused object: one on its line, or several as a list."""
    head, *errors = said.splitlines() or [""]
    return {line.removeprefix("* ") for line in errors} or set(head.split(" is invalid: ", 1)[1:])


def objects(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of the schema: its path as `kubectl explain` takes it, and its described members."""
    members = {name: each for name, each in node["properties"].items() if "description" in each}
    yield path, members
    for name, member in members.items():
        inner = member.get("items", member)
        if "properties" in inner:
            yield from objects(f"{path}.{name}", inner)


def squeezed(text: str) -> str:
    """Text without spaces: kubectl wraps lines, inside words too when they are long."""
    return re.sub(r"\s+", "", text)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
