"""The benchmark's load traces: arrivals of each second, recorded in tests/data/traces, and the branch they meet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headgate_operator.autoscale import ScaleLimits

FOLDER = Path(__file__).parents[2] / "data" / "traces"
HEADER = "arrivals"


@dataclass(frozen=True)
class Branch:
    """The branch that meets a load: how long it handles an event, and what its manifest says of scale."""

    handler_seconds: float
    concurrency: int
    max: int
    start_seconds: float
    """From asking for a worker until it is ready: it is paid for and handles nothing."""
    objective_seconds: float
    """Age, from publishing to settling, that events should not exceed; the manifest's `maxAgeSeconds`."""
    drain_within_seconds: float = 30
    scale_down_after_seconds: float = 15

    @property
    def worker_rate(self) -> float:
        """Events a second that one busy worker settles."""
        return self.concurrency / self.handler_seconds

    @property
    def limits(self) -> ScaleLimits:
        """The same for the pilot."""
        return ScaleLimits(
            min=0,
            max=self.max,
            drain_within_seconds=self.drain_within_seconds,
            scale_down_after_seconds=self.scale_down_after_seconds,
            concurrency=self.concurrency,
            max_age_seconds=self.objective_seconds,
        )


@dataclass(frozen=True)
class Trace:
    """Events of each second, one after the other, and the branch that gets them."""

    name: str
    arrivals: tuple[int, ...]
    branch: Branch

    @property
    def times(self) -> list[float]:
        """When each event is published: those of a second evenly over it."""
        return [second + at / count for second, count in enumerate(self.arrivals) for at in range(count)]


QUICK = Branch(
    handler_seconds=1, concurrency=8, max=40, start_seconds=3, objective_seconds=30, drain_within_seconds=15
)
SLOW = Branch(
    handler_seconds=20, concurrency=2, max=40, start_seconds=8, objective_seconds=90, drain_within_seconds=30
)
BRANCHES = {"step": QUICK, "ramp": QUICK, "day": QUICK, "bursts": QUICK, "noise": QUICK, "slow": SLOW}


def load(name: str, folder: Path = FOLDER) -> Trace:
    """One trace by its name in BRANCHES; raises KeyError, OSError, and ValueError where a line is no count."""
    header, *lines = (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    if header != HEADER:
        raise ValueError(f"{name}.csv: the first line is {header!r}; it must be {HEADER!r}")
    return Trace(name, tuple(int(line) for line in lines), BRANCHES[name])


def save(name: str, arrivals: list[int], folder: Path = FOLDER) -> None:
    """Writes a trace's arrivals, a second a line."""
    text = "\n".join([HEADER, *(str(count) for count in arrivals)]) + "\n"
    (folder / f"{name}.csv").write_text(text, encoding="utf-8")
