"""The FanoutPipeline API, v1alpha1: fields, defaults, rules. The one source of the CRD and its reference.

Everything a manifest can say is a field here, and every field works. Durations are whole seconds.
"""

from __future__ import annotations

import enum
from typing import ClassVar

from pydantic import Field

from headgate_operator._api_backpressure import BackpressureSpec, DelayableLane, LevelSpec, SharesSpec
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
)
from headgate_operator._api_branch import (
    BatchSpec,
    BranchSpec,
    RateLimitSpec,
    RetryRuleSpec,
    RetrySpec,
    ScaleEngine,
    ScaleSpec,
    ScheduleSpec,
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
from headgate_operator._api_network import EgressSpec, NetworkPolicySpec
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
    "EgressSpec",
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
    "NetworkPolicySpec",
    "OnRemove",
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
    "ScaleEngine",
    "ScaleSpec",
    "ScheduleSpec",
    "SecretKeyRef",
    "SharesSpec",
    "SigningSecretRef",
    "SourceSpec",
    "Toleration",
    "Volume",
    "VolumeMount",
]


class OnRemove(enum.StrEnum):
    """What becomes of a branch that is taken out of a manifest."""

    DRAIN = "Drain"
    DELETE = "Delete"


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
        default=None,
        description="What waits when the branches fall behind; without it nothing does. A branch may have its own.",
    )
    paused: bool = Field(
        default=False,
        description="Whether all branches stop taking events; what is published waits, and no worker runs.",
        examples=[True],
    )
    on_remove: OnRemove = Field(
        default=OnRemove.DRAIN,
        description="What becomes of a branch that is taken out: Drain: it finishes what was published before, then"
        " goes. Delete: it goes at once, and what it has not handled it never will.",
        examples=["Delete"],
    )
    network_policy: NetworkPolicySpec | None = Field(
        default=None,
        description="What the workers' pods may reach and be reached by; without it there is no NetworkPolicy."
        " A local run uses none of it.",
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
