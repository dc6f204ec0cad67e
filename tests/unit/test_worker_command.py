"""`headgate worker` from its first moment on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from headgate.contract import BranchContract

if TYPE_CHECKING:
    from pathlib import Path

SLOW_TO_IMPORT = """
import pathlib, time
pathlib.Path("importing").touch()
time.sleep(60)
"""


def test_a_worker_that_is_still_starting_leaves_when_it_is_told_to(tmp_path: Path):
    (tmp_path / "slow.py").write_text(SLOW_TO_IMPORT)
    contract = BranchContract(namespace="default", pipeline="p", branch="b", function="slow:work")
    wiring = {"HEADGATE_CONTRACT": contract.encode(), "HEADGATE_REDIS_URL": "redis://127.0.0.1:1"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "headgate_cli.main", "worker"], cwd=tmp_path, env=os.environ | wiring
    )
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "importing").exists():
            assert time.monotonic() < deadline, "the handler was not imported"
            time.sleep(0.05)
        worker.send_signal(signal.SIGTERM)
        # Not the signal's own doing: in a container it would have none.
        assert worker.wait(10) == 128 + signal.SIGTERM
    finally:
        worker.kill()
        worker.wait()
