"""Blocks of commands in the documentation, by what they open with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")}
)


def commands_of(opening: str) -> list[object]:
    """Each block that opens with these words, as a parameter named after its page and its place among them."""
    block = re.compile(rf"^```{re.escape(opening)}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(commands, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, commands in enumerate(block.findall(page.read_text()), 1)
    ]
