"""Where workers run: what the control plane asks of Kubernetes or of this machine, in the same four words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_operator.pipeline import Pipeline


@dataclass(frozen=True)
class Workers:
    """The workers of one branch: how many were asked for, exist, and can work."""

    desired: int = 0
    running: int = 0
    ready: int = 0
    foreign: bool = False
    """Whether somebody else scales them: the pilot's decision is then for others to read."""
    restarts: int = 0
    """Workers that ended badly, so far: only its growth means anything."""


class Substrate(Protocol):
    """A place where workers run. Methods are idempotent; errors are the place's own, the caller tries again."""

    async def apply(self, pipeline: Pipeline) -> int:
        """Makes everything but the number of workers as the pipeline says; returns the writes made."""
        ...

    async def observe(self, pipeline: Pipeline) -> dict[str, Workers]:
        """The workers that are there, by branch; a branch that has nothing yet may be absent."""
        ...

    async def scale(self, pipeline: Pipeline, branch: str, replicas: int, holding: Mapping[str, int]) -> None:
        """Asks for this many workers at once. Scale-in takes first those that hold fewest (worker -> events)."""
        ...

    async def price(self, pipeline: Pipeline, branch: str, holding: Mapping[str, int]) -> None:
        """Has a scale-in by somebody else, a `foreign` branch's, take first the workers that hold fewest."""
        ...

    async def remove(self, pipeline: Pipeline) -> None:
        """Removes everything the pipeline has here; nothing to remove is no error."""
        ...
