"""What a user copies: every command of the documentation is executed, and handlers of examples stay small."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from unit.test_docs_links import ROOT, name

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = sorted(readme.parent for readme in ROOT.glob("examples/*/README.md"))
PAGES = sorted([*(example / "README.md" for example in EXAMPLES), *ROOT.glob("docs/recipes/*.md")])
FENCE = re.compile(r"^[ >]*(?:```|~~~)(.*)$", re.MULTILINE)
EXECUTED = {"bash tested", "bash tested on a cluster", "bash tested on an API server"}
"""What tests/streams/test_docs_commands.py and the cluster tier execute."""
GUIDES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/guides/**/*.md")])
BLOCK = re.compile(r"^[ >]*(?:```|~~~)(.*)\n([^\n]*)\n", re.MULTILINE)
COMMAND = re.compile(
    r"(?:\$ )?(?:make|headgate|kubectl|helm|pip|python3?|redis-cli|docker|git|hack/\S+|\.venv/\S+|printf|export|cd)\b"
)
"""What a line of commands begins with, whatever its block says that it is."""
NOT_EXECUTED = {
    ("README.md", "make demo"): "CI runs `make test`, whose streams tier runs the demo",
    ("CONTRIBUTING.md", "make "): "CI runs `make test`, which begins with `check`; the others take minutes",
    (
        "docs/guides/start.md",
        "pip install",
    ): "fetches packages; the Dockerfile installs the same project",
    (
        "docs/guides/start.md",
        "helm install",
    ): "with a reader's registry; tests/cluster/installation.py does it with ours",
    (
        "docs/guides/scaling.md",
        "headgate scale -p",
    ): "of a reader's pipeline; tests/unit/test_cli_scale.py",
    (
        "docs/guides/operations.md",
        "kubectl -n headgate rollout restart",
    ): "kubectl's own, of an installation that nobody here shares",
    (
        "docs/guides/engines.md",
        "$ kubectl get scaledobject",
    ): "needs KEDA; tests/cluster/test_engines_on_api_server.py",
    (
        "docs/guides/chaos.md",
        "make chaos-workers",
    ): "takes minutes; tests/chaos/test_ledger.py is the same in small",
    (
        "docs/guides/chaos.md",
        "make crash-operator",
    ): "takes a quarter of an hour; tests/cluster/test_operator_crashes.py is the same in small",
}
"""Blocks of commands by their page and how they begin, and why no test executes them."""
SHOWN = {"mermaid", "yaml", "json", "python", "go", "javascript", "promql"}
"""What is there to be looked at."""
NOT_HANDLERS = {"load.py", "check.py", "demo.py", "chart.py", "exporter.py"}
HELPERS = {"video-processing": {"media.py"}, "payment-events": {"journal.go", "webhooks.go"}}
"""What any program would do just so: codecs by a library; what a library would do for a service without any."""
MOST_LINES = 120


def of(example: Path) -> str:
    return example.name


def blocks(page: Path) -> list[str]:
    """What each block of a page opens with."""
    return [info.strip() for info in FENCE.findall(page.read_text())[::2]]


def handlers(example: Path) -> list[Path]:
    """Files that a worker or a service of the example consists of."""
    left_out = NOT_HANDLERS | HELPERS.get(example.name, set())
    return [
        file
        for file in sorted(example.rglob("*"))
        if file.suffix in {".py", ".go", ".js", ".mjs"}
        and file.name not in left_out
        and not file.name.startswith("test_")
    ]


def test_there_are_examples_and_recipes() -> None:
    assert EXAMPLES
    assert len(PAGES) > len(EXAMPLES)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_commands_that_run_on_this_machine(page: Path) -> None:
    assert "bash tested" in blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_commands_of_a_page_are_left_unexecuted(page: Path) -> None:
    assert [info for info in blocks(page) if info not in EXECUTED | SHOWN] == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_no_commands_of_a_guide_are_left_unexecuted_but_for_a_reason(page: Path) -> None:
    """Also those in a block that does not say that it is one of commands."""
    excused = [begins for of_page, begins in NOT_EXECUTED if of_page == name(page)]
    left = [first for info, first in unexecuted(page) if not first.startswith(tuple(excused))]
    assert left == []


def test_every_reason_is_needed() -> None:
    found = [(name(page), first) for page in GUIDES for _, first in unexecuted(page)]
    unused = [
        (page, begins)
        for page, begins in NOT_EXECUTED
        if not any(page == of_page and first.startswith(begins) for of_page, first in found)
    ]
    assert unused == []


def unexecuted(page: Path) -> list[tuple[str, str]]:
    """What each block of commands that no test executes opens with, and its first line."""
    return [
        (info.strip(), first.strip())
        for info, first in BLOCK.findall(page.read_text())
        if info.strip() not in EXECUTED | SHOWN
        and (info.strip().startswith(("bash", "sh")) or COMMAND.match(first.strip()))
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=of)
def test_an_examples_handlers_are_short_besides_helper_modules_that_are_no_handlers(example: Path) -> None:
    lines = {file.name: len(file.read_text().splitlines()) for file in handlers(example)}
    assert lines
    assert sum(lines.values()) <= MOST_LINES, lines


@pytest.mark.parametrize("example", EXAMPLES, ids=of)
def test_what_a_manifest_calls_counts_as_a_handler(example: Path) -> None:
    documents = yaml.safe_load_all((example / "pipeline.yaml").read_text())
    functions = [
        branch["handler"]["python"]["function"]
        for document in documents
        if document and document["kind"] == "FanoutPipeline"
        for branch in document["spec"]["branches"]
        if "python" in branch["handler"]
    ]
    counted = {file.name for file in handlers(example)}
    modules = {function.partition(":")[0].replace(".", "/") + ".py" for function in functions}
    assert modules - counted == set()
