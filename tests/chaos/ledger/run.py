"""One phase of a ledger run: a publisher, workers and a storm on a server, and what they left beside the plan."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.ledger.canal import CLAIM_SECONDS, KEYS, provision
from chaos.ledger.plan import BRANCHES
from chaos.ledger.readback import outboxed, read_ledger
from chaos.ledger.storm import Crew, Storm
from chaos.ledger.verify import Verdict, verify
from headgate.streams import Publisher, Server, StreamsError, measure
from headgate.worker.ending import end

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from chaos.ledger.plan import Plan
    from chaos.ledger.server import DurableServer

_BATCH = 200  # events a publish: about fifty a partition, so that those of a partition are one script call
_MOST_AHEAD = 20_000  # published and not yet settled by the slowest branch
_LOOK_SECONDS = 0.5
_SAY_SECONDS = 5.0
_QUIET_LOOKS = 4  # after the storm, with nothing left to do, before that is believed
_CALM_SECONDS = 300.0  # for what is left when the storm ends
_STUCK_SECONDS = 45.0  # without any change: it will not come
_STALL_SECONDS = 1.5 * CLAIM_SECONDS
_DOWN_SECONDS = 0.5


@dataclass(frozen=True)
class Report:
    """What a phase did and found. `deliveries` are settled attempts: done, retried or dead-lettered."""

    verdict: Verdict
    struck: Counter[str]
    crashes: tuple[str, ...]
    published: int
    handled: int
    deliveries: int
    retries: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Every promise was kept, and no worker ended by itself."""
        return self.verdict.is_clean and not self.crashes


class Phase:
    """A plan carried out on the server of a URL."""

    def __init__(self, plan: Plan, url: str, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._url = url
        self._say = say
        self._server = Server.connect(url)
        self._began = time.monotonic()
        self._published = 0
        self._settled = dict.fromkeys(BRANCHES, 0)
        self._left: int | None = None  # what is still to be done by anybody; None: unknown

    async def run(
        self, folder: Path, seconds: float, durable: DurableServer | None = None, restarts: int = 0
    ) -> Report:
        """The whole phase: a storm until all is settled, for `seconds` at most, then calm until all is settled.

        With a `durable` server, that is stopped for a while, killed and started again `restarts` times, evenly
        over the storm.
        """
        await provision(self._server)
        crew = Crew(folder, self._url)
        storm = Storm(crew, self._url, self._plan.seed)
        work = [self._publish(), storm.rage()]
        if durable is not None:
            work.append(self._restart(durable, restarts, seconds, storm))
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await self._until(lambda: self._is_done, seconds, storm, tasks)
            await asyncio.gather(*tasks[2:])
            await end(tasks[1:2])
            crew.rest()
            crew.tend()
            self._say(f"the storm is over, {self._left} left")
            await self._until(self._is_quiet(), _CALM_SECONDS, storm, tasks[:1])
            await crew.dismiss()
        finally:
            await end(tasks)
            crew.end()
            await storm.aclose()
        seconds = time.monotonic() - self._began
        self._say("reading it all back")
        return await self._report(storm, crew, seconds)

    @property
    def _is_done(self) -> bool:
        return (
            self._left == 0
            and self._published == self._plan.count
            and min(self._settled.values()) >= self._plan.total
        )

    def _is_quiet(self) -> Callable[[], bool]:
        looks = 0

        def quiet() -> bool:
            nonlocal looks
            looks = looks + 1 if self._is_done else 0
            return looks >= _QUIET_LOOKS

        return quiet

    async def _publish(self) -> None:
        publisher = Publisher(self._server, KEYS)
        events = self._plan.published
        for start in range(0, len(events), _BATCH):
            while self._published - min(self._settled.values()) > _MOST_AHEAD:  # noqa: ASYNC110 - the server knows
                await asyncio.sleep(0.05)
            batch = [event.new_event() for event in events[start : start + _BATCH]]
            while True:
                try:
                    await publisher.publish(batch)
                    break
                except StreamsError:
                    # Cut off or restarted: the same ids again are the same events.
                    await asyncio.sleep(0.05)
                    with contextlib.suppress(StreamsError):
                        await self._server.rediscover()
            self._published += len(batch)

    async def _restart(self, durable: DurableServer, restarts: int, seconds: float, storm: Storm) -> None:
        for number in range(1, restarts + 1):
            share = number / (restarts + 1)
            latest = self._began + seconds * share
            wanted = self._plan.total * share
            while (  # noqa: ASYNC110 - the server knows
                min(self._settled.values()) < wanted and time.monotonic() < latest
            ):
                await asyncio.sleep(0.05)
            await durable.stall(_STALL_SECONDS)
            storm.struck["stall"] += 1
            await asyncio.sleep(_STALL_SECONDS)
            durable.kill()
            await asyncio.sleep(_DOWN_SECONDS)
            began = time.monotonic()
            await asyncio.to_thread(durable.start)
            storm.struck["restart"] += 1
            self._say(f"server killed and started again, loading took {time.monotonic() - began:.1f} s")

    async def _until(
        self, condition: Callable[[], bool], seconds: float, storm: Storm, tasks: list[asyncio.Task[None]]
    ) -> None:
        """Looks until a condition holds, a task fails (raises that) or the time is up; says now and then how it is."""
        deadline = time.monotonic() + seconds
        said = 0.0
        seen, seen_at = (-1, -1), time.monotonic()
        while True:
            with contextlib.suppress(StreamsError):
                await self._look()
            for task in tasks:
                if task.done():
                    task.result()
            if condition():
                return
            now = time.monotonic()
            if now - said >= _SAY_SECONDS:
                said = now
                self._progress(storm)
            if (state := (sum(self._settled.values()), self._left or -1)) != seen:
                seen, seen_at = state, now
            if now > deadline or now - seen_at > _STUCK_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        self._left = None
        (figures,) = await measure(self._server, [(KEYS, BRANCHES)])
        if figures is None:
            return
        left = figures.open_joins + await outboxed(self._server)
        for branch, figure in figures.branches.items():
            self._settled[branch] = figure.settled
            if figure.backlog is None:
                return
            left += figure.backlog
        self._left = left

    def _progress(self, storm: Storm) -> None:
        settled = " ".join(f"{branch} {number}" for branch, number in self._settled.items())
        struck = ", ".join(f"{kind} {number}" for kind, number in sorted(storm.struck.items()))
        self._say(
            f"{time.monotonic() - self._began:5.0f} s  published {self._published}/{self._plan.count}"
            f"  settled {settled} of {self._plan.total}  left {self._left}  struck: {struck or 'nothing'}"
        )

    async def _report(self, storm: Storm, crew: Crew, seconds: float) -> Report:
        (figures,) = await measure(self._server, [(KEYS, BRANCHES)])
        assert figures is not None, "the pipeline cannot be measured"
        retries = sum(figure.retried for figure in figures.branches.values())
        settled = sum(figure.settled for figure in figures.branches.values())
        found = await read_ledger(self._server)
        await self._server.aclose()
        return Report(
            verdict=verify(self._plan, found),
            struck=storm.struck,
            crashes=tuple(crew.crashes),
            published=self._published,
            handled=self._plan.total,
            deliveries=settled + retries,
            retries=retries,
            seconds=seconds,
        )
