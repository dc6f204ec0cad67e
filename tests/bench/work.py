"""What a worker is measured at: its handler, what its branch asks for, and the events it gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.workload import keyed_event, random_event, typed_event
from headgate.contract import BatchSettings, BranchContract, JoinContract, Ordering

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from headgate.event import NewEvent
    from headgate.streams import PipelineKeys

KEYS = 1000  # different ones, where events have keys
UNWANTED = 10  # every so many events one is filtered out, where there is a filter


@dataclass(frozen=True)
class Work:
    """One measurement. `title` is for people, `share` how much of a run's events it takes."""

    name: str
    title: str
    function: str = "handlers:nothing"
    branches: int = 1
    partitions: int = 1
    share: float = 1
    is_joined: bool = False
    is_keyed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def branch_names(self) -> list[str]:
        """The branches, in the order their workers run."""
        return [f"branch-{number}" for number in range(self.branches)]

    def contract(self, keys: PipelineKeys, branch: str, concurrency: int) -> BranchContract:
        """What the worker of a branch is told; all that is not said here is the API's default."""
        return BranchContract(
            namespace=keys.namespace,
            pipeline=keys.pipeline,
            branch=branch,
            function=self.function,
            partitions=self.partitions,
            concurrency=concurrency,
            join=JoinContract(branches=tuple(self.branch_names)) if self.is_joined else None,
            **self.options,
        )

    def event(self, random: Random, number: int) -> NewEvent:
        """Event number `number`."""
        if "filter" in self.options:
            return typed_event("image" if number % UNWANTED == 0 else "video")
        return keyed_event(random, KEYS) if self.is_keyed else random_event(random)

    def filtered(self, events: int) -> int:
        """How many of the first `events` the filter takes out."""
        return -(-events // UNWANTED) if "filter" in self.options else 0


PLAIN = Work("plain", "one branch")
FANOUT5 = Work("fanout5", "five branches, one worker a branch", branches=5)
JOINED = Work("joined", "two joined branches", "handlers:result", branches=2, share=0.5, is_joined=True)
EFFECTS = Work("effects", "an effect an event", "handlers:counted", share=0.5)
BATCH = Work("batch", "batches of 100", "handlers:batch", options={"batch": BatchSettings(max_events=100)})
FILTERED = Work("filtered", "a filter", share=0.5, options={"filter": 'event.data.kind == "video"'})
ORDERED = Work(
    "ordered",
    "ordered by key, 4 partitions",
    "handlers:in_order",
    partitions=4,
    share=0.5,
    is_keyed=True,
    options={"ordering": Ordering.KEY},
)
WORKS = (PLAIN, FANOUT5, JOINED, EFFECTS, BATCH, FILTERED, ORDERED)
