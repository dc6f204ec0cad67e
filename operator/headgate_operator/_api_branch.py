"""A branch: what handles its events, how attempts are repeated, how many workers it has."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

from pydantic import Field

from headgate.contract import Ordering
from headgate_operator._api_backpressure import BackpressureSpec  # noqa: TC001 - likewise
from headgate_operator._api_base import BranchName, CronText, Model, Rule, TimeoutSeconds
from headgate_operator._api_handler import HandlerSpec  # noqa: TC001 - pydantic reads the annotations
from headgate_operator._api_pod import PodSpec

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
START_PATTERN = rf"^(Now|Beginning|{_TIME})$"
"""Now, Beginning, or a time after RFC 3339; that the time exists is checked when the manifest is applied."""


class RetryRuleSpec(Model):
    """What to do about some errors."""

    match: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Regular expression, without back-references and look-around, that is searched for in the"
        " error, which reads `Type: message`.",
        examples=["^ValueError: "],
    )
    retryable: bool = Field(
        default=False,
        description="Whether such an error is tried again; false dead-letters the event at once.",
        examples=[True],
    )


class RetrySpec(Model):
    """When a failed attempt is tried again: wait n is initialSeconds x factor^(n-1), at most maxSeconds."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.initialSeconds <= self.maxSeconds",
            "must not be greater than maxSeconds",
            "lower initialSeconds or raise maxSeconds",
            "initialSeconds",
        ),
    )

    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5,
        description="Attempts in all before an event is dead-lettered; 1 never retries.",
        examples=[3],
    )
    initial_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=1, description="Seconds before the first retry.", examples=[2]
    )
    factor: Annotated[int, Field(ge=1, le=10)] = Field(
        default=2,
        description="What each wait is multiplied by to get the next; 1 keeps it constant.",
        examples=[3],
    )
    max_seconds: TimeoutSeconds = Field(
        default=300, description="Longest wait between attempts, in seconds.", examples=[60]
    )
    error_rules: tuple[RetryRuleSpec, ...] = Field(
        default=(),
        alias="rules",
        max_length=16,
        description="What to do about certain errors, the first that matches decides; without a match an"
        " error is tried again.",
        examples=[[{"match": "^ValueError: "}]],
    )


class BatchSpec(Model):
    """A handler gets several events at once."""

    max_events: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100, description="Most events in a batch.", examples=[50]
    )
    max_wait_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=1,
        description="Seconds that a batch waits to fill, counted from its first event; 0 takes what is"
        " there.",
        examples=[5],
    )


class RateLimitSpec(Model):
    """How fast a branch may go, all its workers together."""

    events_per_second: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="Events a second that all workers of the branch together begin to handle.",
        examples=[100],
    )


class ScaleEngine(enum.StrEnum):
    """Who decides how many workers a branch has."""

    PILOT = "Pilot"
    KEDA = "Keda"
    HPA = "Hpa"
    NONE = "None"


class ScheduleSpec(Model):
    """Hours in which a branch has at least so many workers, whatever its backlog."""

    merge_key: ClassVar[str] = "name"

    name: BranchName = Field(
        description="Name of the entry, unique in the schedule.", examples=["office-hours"]
    )
    start: CronText = Field(
        description="When it begins, as cron: minute, hour, day of the month, month, day of the week.",
        examples=["0 8 * * 1-5"],
    )
    end: CronText = Field(description="When it ends, as cron.", examples=["0 18 * * 1-5"])
    timezone: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="UTC", description="Time zone of both, by its IANA name.", examples=["Europe/Berlin"]
    )
    min: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="Fewest workers meanwhile, up to scale.max; of entries in force together the largest counts.",
        examples=[3],
    )


class ScaleSpec(Model):
    """How many workers a branch has. Set min and max equal for a fixed number."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.min <= self.max", "must not be greater than max", "lower min or raise max", "min"),
    )

    engine: ScaleEngine = Field(
        default=ScaleEngine.PILOT,
        description="Who scales: Pilot: the operator itself, every second. Keda: KEDA, by a ScaledObject that asks the"
        " operator. Hpa: a HorizontalPodAutoscaler on the operator's metric. None: nobody. A local run"
        " always uses Pilot.",
        examples=["Keda"],
    )
    min: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0,
        description="Fewest workers; 0 lets the branch stop while nothing is unsettled.",
        examples=[1],
    )
    max: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10,
        description="Most workers; an ordered branch is not given more than there are partitions.",
        examples=[20],
    )
    drain_within_seconds: TimeoutSeconds = Field(
        default=30,
        description="Seconds within which a backlog should be worked off: fewer takes more workers.",
        examples=[60],
    )
    scale_down_after_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=60,
        description="Seconds for which fewer workers must have sufficed for what arrives, or none at all, before some"
        " are stopped. Workers that only a backlog needed go once it is worked off.",
        examples=[300],
    )
    max_age_seconds: TimeoutSeconds | None = Field(
        default=None,
        description="Seconds that no event should wait for longer: more workers than drainWithinSeconds takes, where it"
        " needs them. Without it only drainWithinSeconds counts.",
        examples=[20],
    )
    max_step: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Most workers that are added at once, with a worker's start-up between two steps; without it"
        " straight to what is needed.",
        examples=[10],
    )
    schedule: tuple[ScheduleSpec, ...] = Field(
        default=(), max_length=8, description="Hours with a higher minimum, by name."
    )


class BranchSpec(Model):
    """One way of processing the pipeline's events; every branch gets every event."""

    merge_key: ClassVar[str] = "name"

    name: BranchName = Field(
        description="Name of the branch, unique in the pipeline: a lower-case DNS label of at most 32"
        " characters."
        " Renaming a branch makes a new one.",
        examples=["transcode"],
    )
    filter: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None,
        description="CEL expression over event, which has id, type, source, key, lane, attempt, time and"
        " data: the branch handles the events for which it is true and settles the others at once;"
        " without it, all.",
        examples=['event.type == "video.uploaded" && event.data.seconds > 0'],
    )
    start_at: Annotated[str, Field(max_length=40, pattern=START_PATTERN)] = Field(
        default="Now",
        description="Where a branch begins that joins a pipeline later: Now, Beginning (of what the source"
        " still keeps) or a time (RFC 3339). Read when the branch is made; changing it later changes nothing.",
        examples=["Beginning"],
    )
    handler: HandlerSpec = Field(description="What handles the events: exactly one kind.")
    ordering: Ordering = Field(
        default=Ordering.NONE,
        description="Key: events with the same key are handled one after another, in the order they were"
        " published; one that is being retried holds back its own key only. None: as they come.",
        examples=["Key"],
    )
    batch: BatchSpec | None = Field(
        default=None, description="Hand over several events at once; without it one at a time."
    )
    rate_limit: RateLimitSpec | None = Field(
        default=None, description="How fast the branch may go; without it as fast as it can."
    )
    concurrency: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=8, description="Events that one worker handles at the same time.", examples=[2]
    )
    timeout_seconds: TimeoutSeconds = Field(
        default=300, description="Seconds an attempt may take before it counts as failed.", examples=[600]
    )
    retry: RetrySpec = Field(
        default=RetrySpec(),
        description="When a failed attempt is tried again: wait n is initialSeconds x factor^(n-1), at most"
        " maxSeconds, give or take a tenth.",
    )
    scale: ScaleSpec = Field(default=ScaleSpec(), description="How many workers the branch has.")
    backpressure: BackpressureSpec | None = Field(
        default=None, description="Backpressure of this branch in place of spec.backpressure."
    )
    paused: bool = Field(
        default=False,
        description="Whether the branch stops taking events; they wait for it, and no worker runs.",
        examples=[True],
    )
    pod: PodSpec = Field(
        default=PodSpec(), description="Settings of the workers' pods; a local run uses none of them."
    )
