"""`make demo`, from an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "video-processing" / "demo.py"


def test_the_demo_ends_with_all_records_right_and_a_picture_of_what_scaled(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEMO], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "30 of 30 records right, each exactly once" in done.stdout
    workers = dict(re.findall(r"^(\w+) +backlog .*\n +workers +(\d+) ", done.stdout, re.MULTILINE))
    assert set(workers) == {"thumbnail", "transcode", "metadata"}
    assert "4" in workers["transcode"]
    assert workers["transcode"].endswith("0")
    assert (tmp_path / ".headgate" / "demo.svg").read_text().count("<path") == 9
