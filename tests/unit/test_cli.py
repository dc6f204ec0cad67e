"""The command line as people and programs meet it, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.event import Lane, NewEvent
from headgate_cli.exits import CommandError
from headgate_cli.main import VERBS
from headgate_cli.manifests import load_all
from headgate_cli.publish import _from_file
from headgate_cli.samples import as_event, sample_events, sampled
from headgate_cli.times import moment_ms
from unit.pipelines import load

NOOP = Path(__file__).parents[1] / "data" / "noop" / "pipeline.yaml"
SHOP = NOOP.parents[1] / "shop" / "pipeline.yaml"
HEAVY = ("kopf", "kubernetes", "pydantic", "aiohttp", "cel", "yaml", "redis", "rich", "uvloop")


def headgate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headgate_cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=60,
    )


def test_the_start_path_imports_nothing_heavy():
    code = f"import sys, headgate_cli.main as m; m.app(); print([n for n in {HEAVY} if n in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str):
    said = headgate(verb, "--help")
    assert said.returncode == 0
    assert "Usage: " in said.stdout
    assert any(line.startswith(f"    headgate {verb}") for line in said.stdout.splitlines())


def test_the_list_of_verbs_says_all_of_each_in_a_line():
    assert [line for line in headgate("--help").stdout.splitlines()[1:] if line.endswith("...")] == []


def test_the_version_is_a_verb_and_an_option():
    assert headgate("--version").stdout == headgate("version").stdout != ""


def test_a_valid_manifest_is_said_to_be_valid():
    said = headgate("validate", str(NOOP))
    assert (said.returncode, said.stdout) == (0, f"{NOOP}: valid\n")


def test_all_mistakes_of_a_manifest_are_reported_at_once(tmp_path: Path):
    wrong = tmp_path / "wrong.yaml"
    text = NOOP.read_text().replace("min: 0, max: 3", "min: 5, max: 3").replace("lag: 10", "lag: 1")
    wrong.write_text(text.replace("concurrency: 2", "concurrency: 0"))
    for verb in ("validate", "run"):
        said = headgate(verb, str(wrong))
        assert said.returncode == 2
        for field in ("concurrency", "scale.min", "releaseLag"):
            assert field in said.stderr
        assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("run", "nothing.yaml"), "nothing.yaml: cannot be read"),
        (("run", str(NOOP), "--timeout", "3"), "--until-settled"),
        (("run", str(NOOP), "--rate", "3"), "--publish"),
        (("publish", "-p", "noop", "--data", "{}"), "HEADGATE_REDIS_URL"),
        (("publish", "-p", "noop"), "--data or --file"),
        (("publish", "-p", "noop", "--data", "{"), "not JSON"),
        (("publish", "-p", "noop", "--data", "{}", "--redis-url", "http://x"), "scheme"),
        (("dead-letters", "-p", "noop"), "give either --branch or --join"),
        (("purge", "-p", "noop", "-b", "a", "--join"), "give either --branch or --join"),
        (("replay", "-p", "noop", "-b", "a"), "give either --since or --from-oldest"),
        (("replay", "-p", "x", "-b", "a", "--since", "1h", "--from-oldest"), "give either --since"),
        (("worker",), "HEADGATE_CONTRACT"),
        (("worker", "--contract", "{}", "--redis-url", "redis://x"), "namespace"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(arguments: tuple[str, ...], remedy: str):
    said = headgate(*arguments, HEADGATE_REDIS_URL="", HEADGATE_CONTRACT="")
    assert said.returncode == 2
    assert said.stderr.startswith("headgate: ")
    assert remedy in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_file_of_another_kind_is_a_mistake_of_the_user_too(tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("- a list")
    said = headgate("validate", str(other))
    assert (said.returncode, len(said.stderr.splitlines())) == (2, 1)
    other.write_bytes('{"data": "caf\xe9"}'.encode("latin-1"))
    with pytest.raises(CommandError, match="is not UTF-8"):
        list(_from_file(other, Lane.NORMAL))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", 910_000),
        ("15m", 100_000),
        ("1d", 0),
        ("1970-01-01T00:00:07.5Z", 7500),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_a_time_is_a_moment_or_how_long_ago_it_was(text: str, ms: int):
    assert moment_ms("--since", text, 1_000_000) == ms


@pytest.mark.parametrize("text", ["now", "1w", "-3h", "1970-01-01T00:00:00", "h"])
def test_what_is_no_time_is_said_with_examples(text: str):
    with pytest.raises(
        CommandError, match=r"--since: .* is no time with a zone.*, nor how long ago"
    ) as raised:
        moment_ms("--since", text, 1_000_000)
    assert raised.value.code == 2


def test_a_server_that_is_not_there_is_named():
    said = headgate("records", "-p", "noop", "--redis-url", "redis://me:secret@127.0.0.1:1")
    assert said.returncode == 1
    assert "127.0.0.1:1" in said.stderr
    assert "secret" not in said.stderr


def test_two_pipelines_of_one_name_are_a_mistake_unless_their_namespaces_differ(tmp_path: Path):
    two = tmp_path / "two.yaml"
    other = NOOP.read_text().replace("name: noop", "name: noop\n  namespace: other")
    two.write_text(NOOP.read_text() + "---\n" + NOOP.read_text())
    for verb in ("validate", "run"):
        said = headgate(verb, str(two))
        assert said.returncode == 2
        assert "metadata.name: 'noop': 2 FanoutPipelines of this name in namespace default" in said.stderr
    two.write_text(NOOP.read_text() + "---\n" + other)
    assert [each.called("slow") for each in load_all(two)] == ["default/noop/slow", "other/noop/slow"]
    with pytest.raises(CommandError, match="2 FanoutPipelines of this name in namespace mine"):
        load_all(two, "mine")


def test_mistakes_of_several_pipelines_name_the_file_and_the_pipeline(tmp_path: Path):
    wrong = tmp_path / "wrong.yaml"
    text = SHOP.read_text()
    wrong.write_text(text.replace("partitions: 3", "partitions: 0").replace("name: send", "name: Send"))
    for verb in ("validate", "run"):
        said = headgate(verb, str(wrong))
        assert said.returncode == 2
        lines = said.stderr.splitlines()
        assert any(line.startswith(f"{wrong}: ledger: spec.source.partitions: ") for line in lines)
        assert any(line.startswith(f"{wrong}: invoices: spec.branches[0].name: ") for line in lines)
        assert not any(line.startswith(f"{wrong}: orders: ") for line in lines)
    assert headgate("validate", str(SHOP)).stdout == f"{SHOP}: valid\n"


def test_sample_events_are_for_the_first_pipeline_that_says_where_they_come_from():
    assert sampled(load_all(SHOP)).pipeline.name == "orders"
    assert sampled(load_all(NOOP)).pipeline.name == "noop"
    with pytest.raises(CommandError, match=r"none of the 2 pipelines of .* has the annotation"):
        sampled(load_all(SHOP)[::2])


def test_a_null_is_the_default_as_for_the_api_server(tmp_path: Path):
    null = tmp_path / "null.yaml"
    null.write_text(
        NOOP.read_text().replace("spec:\n", "spec:\n  source: {partitions: null}\n  redis: null\n")
    )
    spec = load(null).pipeline.spec
    assert (spec.source.partitions, spec.redis) == (1, None)


def test_the_namespace_option_wins():
    assert str(load(NOOP).pipeline) == "default/noop"
    assert str(load(NOOP, "mine").pipeline) == "mine/noop"


def test_sample_events_come_from_the_function_the_manifest_names():
    events = list(sample_events(load(NOOP), 3))
    assert [event.data for event in events] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [event.lane for event in events] == [Lane.HIGH, Lane.NORMAL, Lane.LOW]


def test_without_an_annotation_sample_events_are_numbered(tmp_path: Path):
    plain = tmp_path / "plain.yaml"
    plain.write_text(NOOP.read_text().replace("headgate.dev/sample-events", "other"))
    assert [event.data for event in sample_events(load(plain), 2)] == [{"n": 0}, {"n": 1}]


def test_an_annotation_that_names_nothing_is_refused_before_anything_starts(tmp_path: Path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(NOOP.read_text().replace("handlers:events", "no_such_module:events"))
    with pytest.raises(CommandError, match=r"sample-events.*no_such_module"):
        sample_events(load(wrong), 1)


@pytest.mark.parametrize("wrong", [3, {"id": "x"}, {"data": 1, "lane": "fast"}, {"data": 1, "prio": 3}])
def test_what_is_no_event_is_refused_with_its_place(wrong: object):
    with pytest.raises(CommandError, match=r"events\.jsonl:7"):
        as_event(wrong, "events.jsonl:7")


def test_a_line_is_an_event():
    line = json.loads('{"data": {"a": 1}, "id": "x", "key": "k", "lane": "low"}')
    assert as_event(line, "here") == NewEvent(data={"a": 1}, id="x", key="k", lane=Lane.LOW)
    assert as_event({"data": 1}, "here", Lane.HIGH).lane is Lane.HIGH


def test_a_slim_install_says_which_extra_a_verb_needs():
    without = "import sys; sys.modules['yaml'] = None; from headgate_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "validate", "pipeline.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "headgate: this verb needs more packages: pip install 'headgate[local]'\n",
    )


def test_a_worker_refuses_what_is_no_redis_url_in_one_line():
    contract = '{"namespace":"n","pipeline":"p","branch":"b","function":"m:f"}'
    done = headgate("worker", "--contract", contract, "--redis-url", "http://somewhere")
    assert done.returncode == 2
    assert done.stderr.startswith("headgate: HEADGATE_REDIS_URL: ")
    assert done.stderr.count("\n") == 1
