"""Where an example is proved: this machine, or a namespace of a cluster. A proof sees no difference."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from headgate import connect
from headgate.streams import Server, ServerUnavailableError, find_pipeline

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from headgate import Connection
    from headgate.streams import PipelineMeasurement

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.1

T = TypeVar("T")


class Stage(abc.ABC):
    """One example where it runs; `url` is its Redis server as this machine reaches it.

    `is_chaotic` says that somebody kills a random worker every second from `apply` on: a proof publishes more then.
    """

    is_local = False

    def __init__(
        self, example: str, namespace: str, url: str, dice: random.Random, *, is_chaotic: bool = False
    ) -> None:
        self.folder = EXAMPLES / example
        self.namespace = namespace
        self.url = url
        self.dice = dice
        self.is_chaotic = is_chaotic
        self.applied = asyncio.Event()
        self.kills = 0
        self._files = ["pipeline.yaml"]
        self._leases: set[tuple[str, str]] = set()

    @property
    def pipelines(self) -> dict[str, list[str]]:
        """Branches by pipeline, of all that is applied."""
        return {
            document["metadata"]["name"]: [branch["name"] for branch in document["spec"]["branches"]]
            for file in self._files
            for document in yaml.safe_load_all((self.folder / file).read_text(encoding="utf-8"))
            if document and document["kind"] == "FanoutPipeline"
        }

    async def apply(self, *more: str) -> None:
        """Applies pipeline.yaml and `more` of the example's files; returns when every pipeline takes events."""
        self._files += more
        await self._apply(self._files)
        await self.until("every pipeline takes events", self._takes_events)
        self.applied.set()

    @abc.abstractmethod
    async def _apply(self, files: list[str]) -> None: ...

    @abc.abstractmethod
    async def workers(self) -> dict[str, int]:
        """Running workers by `pipeline/branch`; a branch without any is absent."""

    @abc.abstractmethod
    async def kill(self, where: str = "") -> str:
        """SIGKILL to one worker chosen by dice, of `where` if given; gives its `pipeline/branch`.

        Nothing when none is at work there.
        """

    async def ended(self) -> str:
        """Why nothing will ever happen here any more; empty as long as something may."""
        return ""

    async def at_work(self, where: str = "") -> set[tuple[str, str]]:
        """Workers, of `where` if given, as (pipeline/branch, consumer): who held their lease when this was last asked.

        Others only start, and a kill spares them: where a start takes longer than there is between two kills, the only
        worker of a branch would never get to work, and nothing would be proved.
        """
        before, self._leases = self._leases, set()
        async with contextlib.aclosing(Server.connect(self.url)) as server:
            for pipeline, branches in self.pipelines.items():
                keys, _ = await find_pipeline(server, self.namespace, pipeline)
                for beats, branch in ((each.beats(name), name) for each in keys.all for name in branches):
                    leases = await server.execute(beats, "ZRANGE", beats, 0, -1)
                    self._leases |= {(f"{pipeline}/{branch}", lease.decode()) for lease in leases}
        both = before & self._leases
        return {(place, lease.rpartition(".")[0]) for place, lease in both if where in ("", place)}

    def connect(self, pipeline: str) -> AbstractAsyncContextManager[Connection]:
        """A connection to one of the example's pipelines."""
        return connect(pipeline, namespace=self.namespace, url=self.url)

    async def load(self, *arguments: str) -> dict[str, Any]:
        """Runs the example's load.py; gives the JSON of its last line."""
        command = [sys.executable, str(self.folder / "load.py"), "--redis-url", self.url]
        command += ["--namespace", self.namespace, *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, errors = await process.communicate()
        assert process.returncode == 0, f"{' '.join(command)}: {errors.decode()[-2000:]}"
        last: dict[str, Any] = json.loads(said.splitlines()[-1])
        return last

    async def publish(self, *arguments: str, new: int, again: int = 0) -> dict[str, Any]:
        """Runs load.py, which must publish so many new events and so many that the pipeline has; gives what it says.

        An answer that is lost on the way is asked for again: what was taken by then is told as a duplicate of itself.
        """
        told = await self.load(*arguments)
        assert told["published"] + told["duplicates"] == new + again, told
        assert told["published"] <= new, told
        return told

    async def until(
        self,
        what: str,
        condition: Callable[[], Awaitable[T]],
        seconds: float = PATIENCE_SECONDS,
    ) -> T:
        """Asks until the answer is true, and gives it; raises AssertionError with the state when it never is."""
        deadline = time.monotonic() + seconds
        while True:
            if why := await self.ended():
                raise AssertionError(f"{what}: never will, as {why}")
            # A forwarded port that stands still for a moment answers nothing: that is not the answer.
            with contextlib.suppress(ServerUnavailableError):
                found = await condition()
                if found:
                    return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}; {await self._state()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def settled(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Returns when nothing is unsettled in any pipeline, no join open, and nothing on its way between them."""
        before: list[Any] = []

        async def rests() -> bool:
            nonlocal before
            last, before = before, [_progress(found) for found in (await self.measured()).values()]
            return all(at_rest for at_rest, *_ in before) and before == last

        await self.until("everything is settled", rests, seconds)

    async def measured(self) -> dict[str, PipelineMeasurement]:
        """The figures of each pipeline."""
        figures = {}
        for name in self.pipelines:
            async with self.connect(name) as pipeline:
                figures[name] = await pipeline.measure()
        return figures

    async def _takes_events(self) -> bool:
        try:
            figures = await self.measured()
        except Exception:  # noqa: BLE001 - not there yet: whatever that means to the server
            return False
        return all(set(branches) <= set(figures[name].branches) for name, branches in self.pipelines.items())

    async def _state(self) -> str:
        try:
            figures = await self.measured()
        except Exception as error:  # noqa: BLE001 - a state that cannot be had is told too
            return f"the state cannot be measured: {error}"
        told = [
            f"{name}: {found.open_joins} joins open, {found.outbox} on their way, "
            + ", ".join(
                f"{branch}: backlog {figure.backlog} ({figure.delayed} delayed), {figure.done} done, {figure.dead} dead"
                for branch, figure in found.branches.items()
            )
            for name, found in figures.items()
        ]
        return f"{'; '.join(told)}; workers {await self.workers()}, killed {self.kills}"


def _progress(found: PipelineMeasurement) -> tuple[bool, int, int, list[int]]:
    """Whether a pipeline rests, and what changes when anything happens: twice the same means that nothing did."""
    branches = found.branches.values()
    at_rest = not found.open_joins and not found.outbox and all(each.backlog == 0 for each in branches)
    return at_rest, found.published, found.joined, [each.settled for each in branches]
