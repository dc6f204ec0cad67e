"""An example on this machine: `headgate run` with a server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.streams.embedded import EmbeddedServer
from proofs.stage import Stage

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

_HEADGATE = Path(sys.executable).with_name("headgate")
_END_SECONDS = 60.0


class LocalStage(Stage):
    """One run; `options` are more of `headgate run`'s, to be set before `apply`."""

    is_local = True

    def __init__(
        self, example: str, url: str, dice: random.Random, folder: Path, *, is_chaotic: bool = False
    ) -> None:
        super().__init__(example, "default", url, dice, is_chaotic=is_chaotic)
        self.options: list[str] = []
        self._work = folder
        self._run: asyncio.subprocess.Process | None = None

    async def _apply(self, files: list[str]) -> None:
        assert files == ["pipeline.yaml"], f"one file is all that `headgate run` takes, not {files}"
        log = (self._work / "run.log").open("wb")
        self._run = await asyncio.create_subprocess_exec(
            str(_HEADGATE), "run", str(self.folder / "pipeline.yaml"), "--redis-url", self.url, "--json", *self.options,
            cwd=self._work, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()

    async def workers(self) -> dict[str, int]:
        return dict(Counter(where for where, *_ in self._found()))

    async def kill(self, where: str = "") -> str:
        at_work = await self.at_work(where)
        found = [each for each in self._found() if (each[0], each[2]) in at_work]
        if not found:
            return ""
        where, process, _ = self.dice.choice(found)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
            self.kills += 1
        return where

    async def end(self) -> None:
        """Ends the run, and all that it started with it."""
        if self._run is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._run.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(self._run.wait(), _END_SECONDS)
        except TimeoutError:
            os.killpg(self._run.pid, signal.SIGKILL)
            await self._run.wait()

    async def ended(self) -> str:
        if self._run is None or self._run.returncode is None:
            return ""
        return f"the run has ended with {self._run.returncode}: {self._said()}"

    async def _state(self) -> str:
        return f"{await super()._state()}; the run said: {self._said()}"

    def _said(self) -> str:
        log = self._work / "run.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _found(self) -> list[tuple[str, int, str]]:
        """Workers of the run, as (pipeline/branch, process, consumer), in a fixed order."""
        assert self._run is not None, "apply first"
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                environment = (
                    (folder / "environ").read_bytes().split(b"\0") if parent == self._run.pid else []
                )
            except (OSError, ValueError):
                continue  # gone meanwhile
            variables = dict(variable.partition(b"=")[::2] for variable in environment)
            if b"HEADGATE_CONTRACT" in variables:
                contract, consumer = (
                    json.loads(variables[b"HEADGATE_CONTRACT"]),
                    variables[b"HEADGATE_CONSUMER"],
                )
                where = f"{contract['pipeline']}/{contract['branch']}"
                found.append((where, int(folder.name), consumer.decode()))
        return sorted(found)


@contextlib.asynccontextmanager
async def on_this_machine(
    example: str, dice: random.Random, *, is_chaotic: bool = False
) -> AsyncIterator[LocalStage]:
    """An example with a server; both are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="headgate-proof-") as name:
        folder = Path(name)
        server = await asyncio.to_thread(EmbeddedServer.start, folder / "server")
        try:
            stage = LocalStage(example, server.url, dice, folder, is_chaotic=is_chaotic)
            try:
                yield stage
            finally:
                await stage.end()
        finally:
            await asyncio.to_thread(server.stop)
