"""One trace under each scaler and under the oracle, and the sums over traces."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from bench.autoscale.keda import DEFAULT, KedaScaler, tuned
from bench.autoscale.oracle import least_worker_seconds
from bench.autoscale.pilot import PilotScaler
from bench.autoscale.simulation import handler_seconds, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.autoscale.simulation import Replay, Scaler
    from bench.autoscale.traces import Trace

PILOT, KEDA_DEFAULT, KEDA_TUNED = "pilot", "kedaDefault", "kedaTuned"

SCALERS: Mapping[str, Callable[[Trace, Random], Scaler]] = {
    PILOT: lambda trace, _: PilotScaler(trace.branch.limits),
    KEDA_DEFAULT: lambda trace, random: KedaScaler(DEFAULT, trace.branch, random),
    KEDA_TUNED: lambda trace, random: KedaScaler(tuned(trace.branch), trace.branch, random),
}


@dataclass(frozen=True)
class Comparison:
    """What became of one trace, by scaler; and the least worker-seconds for the pilot's share in time."""

    trace: Trace
    replays: Mapping[str, Replay]
    oracle: float

    def lines(self) -> list[str]:
        """A line for each scaler."""
        return [f"{self.trace.name:>8}  {'oracle':<12}{self.oracle:>9,.0f} worker-seconds"] + [
            f"{self.trace.name:>8}  {name:<12}{replay.worker_seconds:>9,.0f} worker-seconds"
            f"{replay.worker_seconds / self.oracle:>7.3f} of the oracle's{replay.share:>9.2%} in time"
            f"{replay.scale_changes:>5} changes, oldest {replay.oldest_seconds:.0f} s"
            for name, replay in self.replays.items()
        ]


def compare(trace: Trace, seed: int) -> Comparison:
    """Replays a trace under each scaler; the seed says how long each event takes, and KEDA's place in its periods."""
    replays = {
        name: replay(trace, make(trace, Random(f"{seed}/{name}/{trace.name}")), seed)
        for name, make in SCALERS.items()
    }
    late = replays[PILOT].events - replays[PILOT].within
    return Comparison(trace, replays, least_worker_seconds(trace, handler_seconds(trace, seed), late))


def figures(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The pilot's figures over some traces, and KEDA's beside them under their own names."""
    pilot = _figures(comparisons, PILOT)
    return pilot | {name: _figures(comparisons, name) for name in (KEDA_DEFAULT, KEDA_TUNED)}


def _figures(comparisons: Sequence[Comparison], name: str) -> dict[str, Any]:
    replays = [comparison.replays[name] for comparison in comparisons]
    seconds = sum(replay.worker_seconds for replay in replays)
    share = sum(replay.within for replay in replays) / sum(replay.events for replay in replays)
    return {
        "workerSecondsToOracle": round(seconds / sum(comparison.oracle for comparison in comparisons), 3),
        "withinObjective": round(share, 5),
        "workerSeconds": round(seconds),
        "scaleChanges": sum(replay.scale_changes for replay in replays),
    }
