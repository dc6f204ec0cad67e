"""What the operator reports about a pipeline."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

from pydantic import Field

from headgate_operator._api_base import LARGEST_COUNT, BranchName, Count, Model


class ConditionStatus(enum.StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class GateState(enum.StrEnum):
    """Whether a branch's lanes flow."""

    OPEN = "Open"
    DELAYED = "Delayed"
    CLOSED = "Closed"


class Condition(Model):
    """One aspect of the pipeline's state, as Kubernetes conditions are."""

    merge_key: ClassVar[str] = "type"

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="Ready, SpecValid, RedisReachable, WorkersAvailable, ScalingActive, BackpressureActive,"
        " BranchClosed, EventsTrimmed, DeadLettersPresent, OutputMissing, Paused, Reconciling or Stalled.",
        examples=["Ready"],
    )
    status: ConditionStatus = Field(description="Whether the condition holds.", examples=["True"])
    reason: Annotated[
        str, Field(min_length=1, max_length=128, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Why, as one CamelCase word for programs.", examples=["WorkersReady"])
    message: Annotated[str, Field(max_length=4096)] = Field(
        description="Why, as a sentence for people; may be empty.",
        examples=["3 of 3 branches have their workers"],
    )
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] = (
        Field(description="When status last changed.", examples=["2026-01-31T12:00:00Z"])
    )
    observed_generation: Count | None = Field(
        default=None, description="metadata.generation that the condition was found for.", examples=[3]
    )


class BranchStatus(Model):
    """A branch's figures at the last look."""

    merge_key: ClassVar[str] = "name"

    name: BranchName = Field(description="Name of the branch.", examples=["transcode"])
    replicas: Annotated[int, Field(ge=0, le=100000)] = Field(
        default=0, description="Workers that exist.", examples=[4]
    )
    ready_replicas: Annotated[int, Field(ge=0, le=100000)] = Field(
        default=0, description="Workers that take events.", examples=[4]
    )
    desired_replicas: Annotated[int, Field(ge=0, le=100000)] = Field(
        default=0, description="Workers the pilot wants.", examples=[5]
    )
    backlog: Count | None = Field(
        default=None,
        description="Events the branch has not settled: undelivered, pending and delayed; absent while"
        " unknown.",
        examples=[1200],
    )
    age_seconds: Count | None = Field(
        default=None,
        description="Seconds since the oldest unsettled event was published; absent while unknown.",
        examples=[7],
    )
    dead_letters: Count | None = Field(
        default=None,
        description="Events in the branch's dead-letter stream; absent while unknown.",
        examples=[0],
    )
    unread_trimmed: Count | None = Field(
        default=None,
        description="Events so far that the source's retention trimmed before the branch had settled them;"
        " absent while unknown.",
        examples=[0],
    )
    reason: Annotated[str, Field(max_length=512)] = Field(
        default="",
        description="Why it has so many workers: the last decision in a sentence.",
        examples=["backlog 1200 within 30 s at 5.2 events/s a worker"],
    )
    gate: GateState = Field(
        default=GateState.OPEN,
        description="Open: every lane flows. Delayed: some lanes wait. Closed: the branch takes nothing, as its"
        " target is gone for good; see condition BranchClosed.",
        examples=["Open"],
    )


class FanoutPipelineStatus(Model):
    """What the operator last saw of the pipeline."""

    observed_generation: Annotated[int, Field(ge=-1, le=LARGEST_COUNT)] = Field(
        default=-1,
        description="metadata.generation that the operator has acted on; -1 before the first time.",
        examples=[3],
    )
    conditions: tuple[Condition, ...] = Field(
        default=(), max_length=16, description="The state in conditions, by type."
    )
    level: Annotated[str, Field(max_length=32)] = Field(
        default="",
        description="Name of the highest backpressure level that a branch is at; empty when there is none.",
        examples=["Delay"],
    )
    published: Count | None = Field(
        default=None,
        description="Events published to the pipeline so far; absent while unknown.",
        examples=[120000],
    )
    backlog: Count | None = Field(
        default=None,
        description="Sum of the branches' backlogs, in events; absent while one is unknown.",
        examples=[1500],
    )
    branches_ready: Annotated[str, Field(max_length=16)] = Field(
        default="",
        description="Branches that have the workers they need, of all.",
        examples=["3/3"],
    )
    workers: Count | None = Field(
        default=None, description="Workers of all branches that take events.", examples=[7]
    )
    oldest_seconds: Count | None = Field(
        default=None,
        description="Seconds since the oldest event was published that a branch has not settled; absent while"
        " unknown.",
        examples=[12],
    )
    dead_letters: Count | None = Field(
        default=None, description="Dead letters of all branches; absent while unknown.", examples=[0]
    )
    plan: tuple[Annotated[str, Field(max_length=512)], ...] = Field(
        default=(),
        max_length=64,
        description="What would be changed, while annotation headgate.dev/dry-run is true.",
        examples=[["Deployment video-transcode: spec.template: image videos:1 -> videos:2"]],
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    branches: tuple[BranchStatus, ...] = Field(
        default=(), max_length=16, description="Figures of each branch, by name."
    )
