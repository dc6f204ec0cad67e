"""A bench that is told to stop takes down what it started, also one that a shell runs in the background."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, contextlib, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job in the background
from commands import run_command

async def work():
    try:
        print("started", flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)  # an end takes some turns of the loop
        print("ended", flush=True)

def main():
    try:
        asyncio.run(work())
    finally:
        print("taken down", flush=True)
    return 0

run_command(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_told_to_stop_ends_what_it_started_first(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert said == "ended\ntaken down\n"
    assert process.returncode == 130
    assert errors == "interrupted; what was started is ended\n"


def test_a_command_ends_with_its_exit_code() -> None:
    script = "from commands import run_command; run_command(lambda: 3)"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 3
