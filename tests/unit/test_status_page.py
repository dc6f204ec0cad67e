"""The page about status tells of every condition and event there is, and of none that is not."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from headgate_operator import events
from headgate_operator.api import FanoutPipelineStatus
from headgate_operator.conditions import verdicts
from headgate_operator.reconcile import Findings
from headgate_operator.scene import Scene
from unit.pipelines import pipeline

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "status.md").read_text()


def first_column(heading: str) -> set[str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_condition_is_told_of():
    scene = Scene(Findings(1, pipeline()), None, FanoutPipelineStatus(), datetime.now(UTC))
    assert first_column("Conditions") == set(verdicts(scene))


def test_every_event_is_told_of():
    tables = (*events._ON_TRUE.values(), *events._ON_FALSE.values())
    transitions = {reason for _, reason in tables} | {"ScaledUp", "ScaledDown"}
    others = {events.healing(()).reason, "KeysLeft", "UserLeft", "ServerChanged"}
    assert first_column("Events") == transitions | others
