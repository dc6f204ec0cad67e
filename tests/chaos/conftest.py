"""Servers and connections die here on purpose, also while a client connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A connection whose connecting is cancelled is left to the garbage collector by redis-py, which then warns."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed:ResourceWarning")
