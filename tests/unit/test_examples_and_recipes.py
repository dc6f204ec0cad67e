"""Examples and recipes are what a user copies: every command of theirs is executed, and handlers stay small."""

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
EXECUTED = {"bash tested", "bash tested on a cluster"}
"""What tests/streams/test_docs_commands.py and the cluster tier execute."""
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
