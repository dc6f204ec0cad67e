"""A pipeline's source: how it is sharded, what it takes, how long it keeps it and how safely."""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from headgate_operator._api_base import Model, Rule

YEAR_SECONDS = 31_536_000


class DurabilityMode(enum.StrEnum):
    """When a publish is acknowledged."""

    ACKNOWLEDGED = "Acknowledged"
    REPLICATED = "Replicated"


class RetentionSpec(Model):
    """How long the source keeps events."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.keepSeconds <= self.maxAgeSeconds",
            "must not be greater than maxAgeSeconds",
            "lower keepSeconds or raise maxAgeSeconds",
            "keepSeconds",
        ),
    )

    keep_seconds: Annotated[int, Field(ge=0, le=YEAR_SECONDS)] = Field(
        default=0,
        description="Seconds for which events stay that every branch has settled, so that they can be"
        " replayed; 0 lets them go at once.",
        examples=[86400],
    )
    max_age_seconds: Annotated[int, Field(ge=1, le=YEAR_SECONDS)] = Field(
        default=604_800,
        description="Seconds after which an event goes, even if a branch has not settled it; what is lost so"
        " is counted and reported.",
        examples=[86400],
    )
    max_events: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=1_000_000,
        description="Most events in each lane, over all partitions; beyond it the oldest go, even unsettled"
        " ones, counted and reported.",
        examples=[100_000],
    )


class DurabilitySpec(Model):
    """When a publish is acknowledged."""

    mode: DurabilityMode = Field(
        default=DurabilityMode.ACKNOWLEDGED,
        description="Acknowledged: the server has the event. Replicated: so many of its replicas have it too,"
        " or publishing fails.",
        examples=["Replicated"],
    )
    replicas: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="Replicas that must have the event, for mode Replicated.", examples=[2]
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = Field(
        default=1,
        description="Seconds within which they must, for mode Replicated; after that publishing fails.",
        examples=[5],
    )


class SourceSpec(Model):
    """The streams that events are published to."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.partitions >= oldSelf.partitions",
            "must not shrink: events of the removed partitions would be lost",
            "keep at least the partitions the pipeline has, or make a new pipeline with fewer",
            "partitions",
        ),
    )

    partitions: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Shards of the source; events with the same key share one. On Redis Cluster they spread"
        " over the masters."
        " May grow, never shrink.",
        examples=[4],
    )
    dedupe_window_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=600,
        description="Seconds within which publishing an id again changes nothing; 0 turns this off.",
        examples=[3600],
    )
    event_schema: dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema of an event's data, 64 KiB at most: publishing anything else fails with the"
        " place at fault; what is written by hand is dead-lettered. Without it any JSON is taken.",
        examples=[{"type": "object", "required": ["path"]}],
    )
    retention: RetentionSpec = Field(
        default=RetentionSpec(), description="How long events stay in the source."
    )
    durability: DurabilitySpec = Field(
        default=DurabilitySpec(), description="When a publish is acknowledged, and what a failover may lose."
    )
