"""A pipeline under the pilot's hand: what is remembered of it from tick to tick."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headgate_operator import autoscale, backpressure
from headgate_operator.pricing import Prices
from headgate_operator.readings import Rate
from headgate_operator.substrates import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.event import Lane
    from headgate.relay import Relay
    from headgate.streams import Closed, Rejection
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.readings import PipelineReading


@dataclass
class BranchMemory:
    """What is remembered of a branch."""

    scaler: autoscale.ScalerState = field(default_factory=autoscale.ScalerState)
    measured: bool = False
    """Whether it was measured before. The first time, the gate that stands says at which level a pilot left it."""
    level: backpressure.LevelState = field(default_factory=backpressure.LevelState)
    workers: Workers = field(default_factory=Workers)
    rate: Rate = field(default_factory=Rate)
    prices: Prices = field(default_factory=Prices)
    closed: Closed | None = None
    delayed: frozenset[Lane] = frozenset()
    """Lanes its gate holds back."""
    level_name: str = ""
    """Name of the highest level it is at; empty for none."""
    rejection: Rejection | None = None
    """What its level wants publishers to be refused."""
    retry_after_seconds: int = 1


@dataclass
class Flight:
    """A pipeline, and what is remembered of it. `errors` are those of the tick under way."""

    pipeline: Pipeline
    branches: defaultdict[str, BranchMemory] = field(default_factory=lambda: defaultdict(BranchMemory))
    rate: Rate = field(default_factory=Rate)
    reading: PipelineReading | None = None
    due: float = float("-inf")
    """When it is looked at again, by the pilot's clock."""
    look: asyncio.Event | None = None
    """The look under way, which sets it when it is over; None when nobody looks."""
    removed: bool = False
    """Whether it is flown no longer: a round under way may still have it, and must not make again what is removed."""
    at_rest: bool = False
    """Whether nothing was under way at the last look (see headgate_operator.rest)."""
    swept: float = float("-inf")
    rejects: bool = False
    """Whether publishers are refused anything."""
    relay: Relay | None = None
    groups: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who makes and removes its groups: a pass, of what is wanted, or the pilot, of what was lost."""
    healed: dict[str, None] = field(default_factory=dict)
    """Branches whose lost groups were made again since somebody asked, in order."""
    errors: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Puts an error into the reading and goes on: the next tick tries again."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - servers and substrates have errors of their own
            self.errors.append(f"{what}: {error}")
