"""The FanoutPipeline API, v1alpha1: fields, defaults, rules. The one source of the CRD and its reference.

Everything a manifest can say is a field here, and every field works. Durations are whole seconds.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

from pydantic import Field

from headgate.event import Lane
from headgate_operator._api_base import (
    API_VERSION,
    GROUP,
    KIND,
    PLURAL,
    SINGULAR,
    VERSION,
    Model,
    ObjectName,
    Rule,
    SecretKey,
    TimeoutSeconds,
)
from headgate_operator._api_branch import (
    BatchSpec,
    BranchSpec,
    RateLimitSpec,
    RetryRuleSpec,
    RetrySpec,
    ScaleSpec,
)
from headgate_operator._api_handler import (
    URL_PATTERN,
    CircuitBreakerSpec,
    ContainerHandler,
    HandlerSpec,
    HttpHandler,
    PythonHandler,
    SigningSecretRef,
)
from headgate_operator._api_join import JoinSpec, OutputSpec
from headgate_operator._api_pod import (
    EnvFromSource,
    EnvVar,
    PodSpec,
    ResourcesSpec,
    Toleration,
    Volume,
    VolumeMount,
)
from headgate_operator._api_source import DurabilityMode, DurabilitySpec, RetentionSpec, SourceSpec
from headgate_operator._api_status import (
    BranchStatus,
    Condition,
    ConditionStatus,
    FanoutPipelineStatus,
    GateState,
)

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "SINGULAR",
    "URL_PATTERN",
    "VERSION",
    "BackpressureSpec",
    "BatchSpec",
    "BranchSpec",
    "BranchStatus",
    "CircuitBreakerSpec",
    "Condition",
    "ConditionStatus",
    "ContainerHandler",
    "DelayableLane",
    "DurabilityMode",
    "DurabilitySpec",
    "EnvFromSource",
    "EnvVar",
    "FanoutPipeline",
    "FanoutPipelineSpec",
    "FanoutPipelineStatus",
    "GateState",
    "HandlerSpec",
    "HttpHandler",
    "JoinSpec",
    "LevelSpec",
    "Model",
    "OutputSpec",
    "PodSpec",
    "PythonHandler",
    "RateLimitSpec",
    "RedisSpec",
    "ResourcesSpec",
    "RetentionSpec",
    "RetryRuleSpec",
    "RetrySpec",
    "Rule",
    "ScaleSpec",
    "SecretKeyRef",
    "SigningSecretRef",
    "SourceSpec",
    "Toleration",
    "Volume",
    "VolumeMount",
]


class DelayableLane(enum.StrEnum):
    """A lane that backpressure may delay; High always flows."""

    LOW = "Low"
    NORMAL = "Normal"

    @property
    def lane(self) -> Lane:
        """The lane as the data plane knows it."""
        return Lane(self.value.lower())


class SecretKeyRef(Model):
    """One key of a Secret in the pipeline's namespace."""

    name: ObjectName = Field(
        description="Name of the Secret, in the pipeline's namespace.", examples=["redis-url"]
    )
    key: SecretKey = Field(
        default="url", description="Key of the Secret whose value is the URL.", examples=["url"]
    )


class RedisSpec(Model):
    """The Redis or Valkey server that carries the pipeline."""

    secret_ref: SecretKeyRef = Field(
        description="Secret that holds the server's URL, such as redis://user:password@host:6379/0; rediss:// by"
        " TLS, redis+sentinel:// and redis+cluster:// by some of their nodes."
    )


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
    delay: tuple[DelayableLane, ...] = Field(
        min_length=1,
        max_length=2,
        description="Lanes that wait while the level is in force: Low, Normal. High always flows.",
        examples=[["Low"]],
        json_schema_extra={"x-kubernetes-list-type": "set"},
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


class FanoutPipelineSpec(Model):
    """What the pipeline should be."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.join) || self.join.branches.all(n, self.branches.exists(b, b.name == n))",
            "must name branches of this pipeline",
            "use names from spec.branches, or add the branch",
            "join.branches",
        ),
    )

    redis: RedisSpec | None = Field(
        default=None,
        description="The Redis or Valkey server that carries the pipeline; without it, the operator's own."
        " A local run uses neither.",
    )
    source: SourceSpec = Field(default=SourceSpec(), description="The streams that events are published to.")
    branches: tuple[BranchSpec, ...] = Field(
        min_length=1, max_length=16, description="The branches, by name; every branch gets every event."
    )
    join: JoinSpec | None = Field(
        default=None,
        description="Gathers the branches' outcomes of each event into one record; without it there is none.",
    )
    backpressure: BackpressureSpec | None = Field(
        default=None, description="What waits when the branches fall behind; without it nothing does."
    )


class FanoutPipeline(Model):
    """Takes events to every branch, scales each branch's workers by its backlog, joins the results."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.spec.join) || !has(self.spec.join.output)"
            " || self.spec.join.output.pipeline != self.metadata.name",
            "must not be the pipeline itself: its records would make records for ever",
            "name another pipeline",
            "spec.join.output.pipeline",
        ),
    )

    spec: FanoutPipelineSpec = Field(description="What the pipeline should be.")
    status: FanoutPipelineStatus = Field(
        default=FanoutPipelineStatus(), description="What the operator last saw; written by it alone."
    )
