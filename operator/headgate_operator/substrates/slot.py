"""One worker's place on this machine: the process in it comes and goes, its name stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.contract import BranchContract
    from headgate.streams import PipelineKeys

NO_PORT = -1  # a worker's word for serving nothing
_CANNOT_LOAD = 2  # a worker's exit status, see headgate.worker


@dataclass
class Slot:
    """One worker's place: its process comes and goes, its name stays."""

    keys: PipelineKeys
    contract: BranchContract
    number: int
    log: Path
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0
    """Times it ended by itself in a row, without having been steady between."""
    status: int = 0
    last_words: str = ""
    http_port: int = NO_PORT

    @property
    def pipeline(self) -> str:
        """Its pipeline, as namespace/name."""
        return f"{self.keys.namespace}/{self.keys.pipeline}"

    @property
    def name(self) -> str:
        """Its consumer's name."""
        return f"local-{self.contract.branch}-{self.number}"

    @property
    def is_hopeless(self) -> bool:
        """Whether its process said that starting it again will not help: its handler cannot be loaded."""
        return self.status == _CANNOT_LOAD

    def read_last_words(self) -> str:
        """The last line of its log: its error where the line is a structured one."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        if not lines:
            return "it said nothing"
        try:
            said = json.loads(lines[-1])
        except ValueError:
            return lines[-1]
        return (
            str(said.get("error") or said.get("event") or lines[-1]) if isinstance(said, dict) else lines[-1]
        )


@dataclass(frozen=True)
class Failing:
    """A branch whose workers end by themselves: how many times in a row, what one said last, and its log.

    `pipeline` is its namespace/name.
    """

    pipeline: str
    branch: str
    failures: int
    hopeless: bool
    """Whether it said that starting it again will not help: its handler cannot be loaded."""
    last_words: str
    log: Path


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_group(process: asyncio.subprocess.Process) -> None:
    """Kills the process and all it started; nothing left is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
