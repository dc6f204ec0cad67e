"""A thousand producers' lines end in per-minute counts that equal what was sent, exactly, though workers are killed.

What is compared is counted here, from the events that were sent, without the handlers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate import NewEvent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from proofs.stage import Stage

PIPELINE = "log-dashboard"
PRODUCERS, EACH = 1000, 20
AGAIN = 50  # producers that never heard the answer, and send all they have once more
HOUR_MS = 3_600_000
SETTLED_SECONDS = 300.0  # a worker a second dies: most of the time goes into starting others


@dataclass
class Expected:
    """What the pipeline must have counted and put of the events it was sent."""

    counts: Counter[str] = field(default_factory=Counter)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, events: Iterable[NewEvent], *, astray: bool = False) -> None:
        """Events in the order they are published."""
        for event in events:
            if "level" in event.data:
                when = "astray" if astray else minute(event.data["time"])
                place = f"{event.data['service']} {event.data['level']}"
                self.counts.update([f"total {place}", f"{when} {place}"])
            else:
                assert event.key is not None
                self.values[event.key] = event.data

    @property
    def lines(self) -> int:
        """How many were counted."""
        return sum(counted for name, counted in self.counts.items() if name.startswith("total "))


async def prove(stage: Stage) -> dict[str, int | float | str]:
    """Applies the example, publishes, kills workers meanwhile, compares; figures. Raises AssertionError."""
    await stage.apply()
    # Under chaos lines come for as long as it takes to be struck often.
    seconds = 20 if stage.is_chaotic else 0
    seed, end_ms = str(stage.dice.randrange(2**32)), int(time.time() * 1000)
    asked = ["--producers", f"{PRODUCERS}", "--events", f"{EACH}", "--seed", seed, "--end-ms", f"{end_ms}"]
    load = module(stage, "load")
    everything = [load.producer_events(seed, number, EACH, end_ms) for number in range(PRODUCERS)]
    expected = Expected()
    for events in everything:
        expected.add(events)

    began = time.monotonic()
    loading = asyncio.create_task(stage.publish(*asked, "--seconds", f"{seconds}", new=PRODUCERS * EACH))
    killed = await strike(stage, expected)
    said = await loading
    await stage.settled(SETTLED_SECONDS)
    took = time.monotonic() - began

    async with stage.connect(PIPELINE) as pipeline:
        await compare(stage, expected)
        receipts = await pipeline.publish(*everything[:AGAIN])
        assert all(receipt.duplicate for receipt in receipts), (
            "an id that was published again was taken again"
        )
        astray = strays(end_ms)
        await pipeline.publish(astray)
        expected.add(astray, astray=True)
    await stage.settled(SETTLED_SECONDS)
    await compare(stage, expected)
    return {
        "producers": PRODUCERS,
        "events": PRODUCERS * EACH,
        "lines": expected.lines,
        "counters": len(expected.counts),
        "gauges": len(expected.values),
        "killed_while_counting": " ".join(killed),
        "published_per_second": said["eventsPerSecond"],
        "events_per_second": round(PRODUCERS * EACH / took),
    }


async def strike(stage: Stage, expected: Expected) -> list[str]:
    """Kills workers of both branches while lines are being counted; gives whose, in order."""
    killed: list[str] = []
    least = 1.0
    async with stage.connect(PIPELINE) as pipeline:

        async def enough_counted() -> int:
            counts = await pipeline.counts()
            found = sum(counted for name, counted in counts.items() if name.startswith("total "))
            return found if found >= least else 0

        while not {f"{PIPELINE}/tally", f"{PIPELINE}/latest"} <= set(killed):
            counted = await stage.until(f"{least:.0f} lines are counted", enough_counted)
            assert counted < expected.lines, f"all lines were counted when only these were killed: {killed}"
            if where := await stage.kill():
                killed.append(where)
                least = expected.lines / 10
    return killed


async def compare(stage: Stage, expected: Expected) -> None:
    """Every counter and every value, and that nobody gave up on anything."""
    async with stage.connect(PIPELINE) as pipeline:
        counts, values = await pipeline.counts(), await pipeline.values()
        wrong = {
            name: (expected.counts.get(name, 0), counts.get(name, 0))
            for name in expected.counts.keys() | counts.keys()
            if expected.counts.get(name, 0) != counts.get(name, 0)
        }
        assert not wrong, f"{len(wrong)} counters (sent, counted): {dict(sorted(wrong.items())[:10])}"
        other = {
            key: (expected.values.get(key), values.get(key))
            for key in expected.values.keys() | values.keys()
            if expected.values.get(key) != values.get(key)
        }
        assert not other, f"{len(other)} gauges (last sent, kept): {dict(sorted(other.items())[:10])}"
        for branch in ("tally", "latest"):
            assert not (letters := await pipeline.dead_letters(branch)), letters[:3]


def minute(time_ms: int) -> str:
    """The minute of a line's time, as the counters name it."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%dT%H:%MZ}"


def strays(end_ms: int) -> list[NewEvent]:
    """Lines of a producer whose clock is wrong: of yesterday, of the year 1970, of tomorrow, of no year at all."""
    times = [end_ms - 24 * HOUR_MS, 0, end_ms + 24 * HOUR_MS, 10**18]
    return [
        NewEvent(id=f"stray/{end_ms}/{time_ms}", data={"time": time_ms, "service": "web", "level": "info"})
        for time_ms in times
    ]


def module(stage: Stage, name: str) -> ModuleType:
    """One of the example's modules, under a name that no other example has."""
    full = f"log_dashboard_{name}"
    spec = importlib.util.spec_from_file_location(full, stage.folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[full] = found
    spec.loader.exec_module(found)
    return found
