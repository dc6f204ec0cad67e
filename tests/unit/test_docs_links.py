"""What the documentation points to is there: files, tests, make targets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if (ROOT / name).exists()
)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"`(tests/[\w/.-]+\.py)(?:::(\w+))?`")
CODE = re.compile(r"`((?:workers|operator|cli|crds|charts|examples|hack|tests|docs)/[\w/.-]+\.\w+)`")
TARGET = re.compile(r"`make ([a-z-]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_a_page_names_is_there(page: Path) -> None:
    assert [path for path in CODE.findall(page.read_text()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_test_a_page_names_is_there(page: Path) -> None:
    named = TEST.findall(page.read_text())
    texts = {path: (ROOT / path).read_text() if (ROOT / path).exists() else "" for path, _ in named}
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not texts[path] or (test and not re.search(rf"^(async )?def {test}\(", texts[path], re.MULTILINE))
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(page.read_text())) <= targets


def test_each_promise_names_a_test() -> None:
    promises = (ROOT / "docs" / "promises.md").read_text()
    rows = [row for row in promises.splitlines() if row.startswith("| ") and not row.startswith("| promise")]
    assert rows
    assert [row for row in rows if not TEST.search(row)] == []


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    named = {(index.parent / link).resolve() for link in LINK.findall(index.read_text()) if "://" not in link}
    pages = [page for page in PAGES if page.is_relative_to(index.parent) and page.parent.name != "decisions"]
    assert [name(page) for page in pages if page not in named | {index}] == []
