"""What waits, is refused or given up when branches fall behind."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

from pydantic import Field

from headgate.event import Lane
from headgate_operator._api_base import Model, Rule, TimeoutSeconds

SharePercent = Annotated[int, Field(ge=0, le=50)]


class DelayableLane(enum.StrEnum):
    """A lane that backpressure may hold back; High always flows."""

    LOW = "Low"
    NORMAL = "Normal"

    @property
    def lane(self) -> Lane:
        """The lane as the data plane knows it."""
        return Lane(self.value.lower())


class LevelSpec(Model):
    """A level of backpressure; each branch enters and leaves it by its own backlog."""

    merge_key: ClassVar[str] = "name"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.releaseLag < self.lag",
            "must be less than lag",
            "lower releaseLag, for example to half of lag",
            "releaseLag",
        ),
        Rule(
            "has(self.delay) || has(self.reject)",
            "must delay or reject a lane",
            "name lanes under delay, under reject, or both",
        ),
    )

    name: Annotated[
        str, Field(min_length=1, max_length=32, pattern="^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$")
    ] = Field(
        description="Name of the level, unique in the pipeline; shown in status.level.", examples=["Delay"]
    )
    lag: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        description="A branch enters the level when this many events are unsettled in the lanes that flow,"
        " unless the lanes that the level does not delay are fine (see releaseLag).",
        examples=[10000],
    )
    age_seconds: TimeoutSeconds | None = Field(
        default=None,
        description="A branch also enters the level when the oldest unsettled event in the lanes that flow is"
        " this many seconds old; without it only lag counts.",
        examples=[60],
    )
    release_lag: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        description="A branch leaves the level when the lanes that it does not delay are fine: fewer"
        " unsettled events than this, and none older than half of ageSeconds."
        " 0 counts as 1. Less than lag, so that gates do not flutter.",
        examples=[5000],
    )
    delay: Annotated[tuple[DelayableLane, ...], Field(min_length=1, max_length=2)] | None = Field(
        default=None,
        description="Lanes that wait while the level is in force: Low, Normal. High always flows.",
        examples=[["Low"]],
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    reject: Annotated[tuple[DelayableLane, ...], Field(min_length=1, max_length=2)] | None = Field(
        default=None,
        description="Lanes whose events publishers are refused while a branch is at the level: Low, Normal. What is"
        " refused reaches no branch; what was published before is handled. lag and releaseLag then count all lanes,"
        " also those that wait; ageSeconds looks at the lanes that it does not refuse.",
        examples=[["Low"]],
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class SharesSpec(Model):
    """What the lower lanes get although the higher ones never run empty."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.normal + self.low <= 90",
            "must leave lane High 10 percent: normal and low together at most 90",
            "lower normal or low",
        ),
    )

    normal: SharePercent = Field(
        default=1,
        description="Percent of the events read that lane Normal gets while High would take all.",
        examples=[5],
    )
    low: SharePercent = Field(
        default=1,
        description="Percent of the events read that lane Low gets while the others would take all.",
        examples=[5],
    )


class BackpressureSpec(Model):
    """What waits when the branches fall behind."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[1, 2, 3].all(i, i >= size(self.levels) || self.levels[i - 1].lag < self.levels[i].lag)",
            "must be in ascending order of lag",
            "order the levels by lag, each greater than the one before",
            "levels",
        ),
    )

    levels: tuple[LevelSpec, ...] = Field(
        min_length=1,
        max_length=4,
        description="The levels, by name, in ascending order of lag; a branch climbs and leaves them one at a"
        " time.",
    )
    max_delay_seconds: TimeoutSeconds = Field(
        default=900,
        description="Seconds after which a delayed event flows all the same: nothing starves for ever.",
        examples=[300],
    )
    deadline_seconds: TimeoutSeconds | None = Field(
        default=None,
        description="An event that a level delays and that gets older than this many seconds is handled no more:"
        " it becomes a dead letter. Without it no event is given up for its age.",
        examples=[3600],
    )
    shares: SharesSpec = Field(
        default=SharesSpec(),
        description="What the lower lanes get although the higher ones never run empty; a level that delays a lane"
        " goes before.",
    )
