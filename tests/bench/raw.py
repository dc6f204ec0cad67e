"""The yardstick: a C client that reads and acknowledges a stream, compiled here, run on the same server."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("raw.c")


class CompilerMissingError(RuntimeError):
    """raw.c cannot be compiled on this machine; says what to install."""


@dataclass(frozen=True)
class RawClient:
    """The compiled client."""

    binary: Path

    def deliveries_per_second(self, port: int, events: int, groups: int, depth: int) -> float:
        """Deliveries a second of `events` entries through each of `groups` groups, `depth` reads under way.

        Raises RuntimeError when an entry was not acknowledged exactly once.
        """
        command = [str(self.binary), *(str(number) for number in (port, events, groups, depth))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        deliveries, seconds = done.stdout.split()
        return int(deliveries) / float(seconds)


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
        command = [compiler, "-O2", "-o", str(binary), str(SOURCE), "-lhiredis"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr[:1000]
            raise CompilerMissingError(
                f"raw.c does not compile; Debian: apt-get install libhiredis-dev\n{said}"
            )
        yield RawClient(binary)
