"""Blocks of commands in the documentation that open with `bash tested` do what they are there for: they succeed.

They run in a copy of nothing: the checkout itself, with the development environment's commands on PATH and a media
folder of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from documentation import ROOT, commands_of

BLOCKS = commands_of("bash tested")


def test_the_documentation_has_commands_to_run() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("commands", BLOCKS)
def test_documented_commands_succeed(commands: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "HEADGATE_MEDIA": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
