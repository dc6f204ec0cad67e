"""The yardsticks: a C client that reads and acknowledges a stream, compiled here, run on the same server."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import InvalidRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_SECONDS = 60.0
SOURCE = Path(__file__).with_name("raw.c")


class CompilerMissingError(RuntimeError):
    """raw.c cannot be compiled on this machine; says what to install."""


@dataclass(frozen=True)
class RawClient:
    """The compiled client."""

    binary: Path

    def deliveries_per_second(self, port: int, events: int, groups: int, depth: int) -> float:
        """Deliveries a second of `events` entries through each of `groups` groups, `depth` reads under way.

        Raises InvalidRunError when an entry was not acknowledged exactly once.
        """
        deliveries, seconds = self._run("consume", port, events, groups, depth).split()
        return int(deliveries) / float(seconds)

    def arrivals(self, port: int, rate: int, seconds: int, into: Path) -> None:
        """Adds `rate` entries a second for `seconds` and reads each; writes when each was due and its ns until read.

        Raises InvalidRunError when an entry was not acknowledged exactly once.
        """
        self._run("latency", port, rate, seconds, into)

    def _run(self, *arguments: str | int | Path) -> str:
        command = [str(self.binary), *(str(argument) for argument in arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise InvalidRunError(f"{' '.join(command)} has not ended after {RUN_SECONDS:g} s") from error
        if done.returncode != 0:
            raise InvalidRunError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout


@contextlib.contextmanager
def raw_client() -> Iterator[RawClient]:
    """Compiles raw.c into a folder that is removed afterwards; raises CompilerMissingError."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CompilerMissingError(
            "no C compiler on PATH; Debian: apt-get install gcc libc6-dev libhiredis-dev"
        )
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        binary = Path(folder) / "raw"
        command = [compiler, "-O2", "-o", str(binary), str(SOURCE), "-pthread", "-lhiredis"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr[:1000]
            raise CompilerMissingError(
                f"raw.c does not compile; Debian: apt-get install libhiredis-dev\n{said}"
            )
        yield RawClient(binary)
