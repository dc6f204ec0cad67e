"""docs/challenges.md answers what is asked of such systems: by fields that exist, proved by tests that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

import headgate
from headgate_operator.crd import schema
from unit.test_docs_links import ROOT, TEST

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "challenges.md"
OTHERS = {"Recipes", "Open"}
"""Sections that answer no challenge."""
ANSWERED = (
    "ordering",
    "at-least-once and duplicates",
    "idempotency",
    "aggregation",
    "retries and partial failure",
    "hot shards",
    "spikes",
    "backpressure",
    "rate limiting",
    "batch writes",
    "replicas",
    "monitoring of hot spots",
    "decoupling",
    "fault isolation",
)
OPEN = (
    "write amplification",
    "hot keys",
    "pagination across sources",
    "ranking and merge",
    "cold start",
    "cache invalidation",
    "multi-level cache",
)
LINK = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")


def sections(text: str) -> dict[str, str]:
    """The page's sections by heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def line(section: str, name: str) -> str:
    """What stands behind **Name:**; empty where there is no such line."""
    found = re.search(rf"^- \*\*{name}:\*\* (.+)$", section, re.MULTILINE)
    return found[1] if found else ""


def has_field(path: str) -> bool:
    """Whether a path such as spec.branches[].retry is one of the API."""
    node: Any = schema()
    for part in path.split("."):
        name = part.removesuffix("[]")
        node = node.get("properties", {}).get(name)
        if node is not None and part != name:
            node = node.get("items")
        if node is None:
            return False
    return True


def has_name(path: str) -> bool:
    """Whether headgate.Name, or headgate.Name.member, is there for handlers and publishers."""
    found: Any = headgate
    for part in path.split(".")[1:]:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


SECTIONS = sections(PAGE.read_text())
CHALLENGES = {heading: text for heading, text in SECTIONS.items() if heading not in OTHERS}


def test_every_challenge_that_is_asked_about_is_answered_or_open() -> None:
    headings = [heading.lower() for heading in CHALLENGES]
    assert [name for name in ANSWERED if not any(name in heading for heading in headings)] == []
    assert [name for name in OPEN if f"**{name}**" not in SECTIONS["Open"].lower()] == []


@pytest.mark.parametrize("heading", CHALLENGES)
def test_a_challenge_has_its_question_an_answer_a_field_a_test_and_a_limit(heading: str) -> None:
    text = CHALLENGES[heading]
    assert re.match(r"\n\n> .+\n\n[\w`]", text), "the question first, then the answer"
    assert line(text, "Not promised")
    named = re.findall(r"`((?:spec|headgate)\.[^`]+)`", line(text, "Field"))
    assert named
    assert [
        path for path in named if not (has_field(path) if path.startswith("spec") else has_name(path))
    ] == []
    tests = TEST.findall(line(text, "Test"))
    assert tests
    # That they exist is checked of every page at once: tests/unit/test_docs_links.py.
    assert line(text, "Test").count("`") == 2 * len(tests), "nothing but tests, each whole"
    assert [path for path, test in tests if not test] == []


def test_every_fields_link_leads_to_where_the_reference_describes_it() -> None:
    for heading, text in CHALLENGES.items():
        for path, anchor in re.findall(r"\[`(spec[^`]*)`\]\(reference/fanoutpipeline\.md#(\w+)\)", text):
            places = {re.sub(r"\W", "", place).lower() for place in (path, path.rpartition(".")[0] or path)}
            assert anchor in places, f"{heading}: {path}"


def test_every_anchor_that_is_linked_is_there() -> None:
    for target, anchor in LINK.findall(PAGE.read_text()):
        page = (PAGE.parent / target) if target else PAGE
        assert anchor in anchors(page), f"{target}#{anchor}"


def test_every_challenge_is_linked_from_the_top_of_the_page() -> None:
    top = PAGE.read_text().partition("\n## ")[0]
    linked = {anchor for target, anchor in LINK.findall(top) if not target}
    assert anchors(PAGE) - linked - {"challenges-of-fan-out-and-fan-in", "recipes"} == set()


def test_every_answer_recipe_and_example_is_two_clicks_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [PAGE, *ROOT.glob("docs/recipes/*.md"), *ROOT.glob("examples/*/README.md")]
    assert [page for page in pages if f"]({page.relative_to(ROOT)})" not in readme] == []


def test_a_field_that_is_not_there_is_found_out() -> None:
    assert has_field("spec.branches[].retry.rules")
    assert not has_field("spec.branches[].retry.attempts")
    assert not has_field("spec.branches.retry")
    assert has_name("headgate.NewEvent.key")
    assert not has_name("headgate.NewEvent.keys")
