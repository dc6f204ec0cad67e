"""A branch: what handles its events, how attempts are repeated, how many workers it has."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from headgate.contract import Executor
from headgate_operator._api_base import BranchName, Model, Rule, TimeoutSeconds
from headgate_operator._api_pod import PodSpec

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
FUNCTION_PATTERN = rf"^{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*$"


class PythonHandler(Model):
    """A Python function that is called with each event."""

    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Container image with the function and the headgate package; a local run imports the"
        " function instead.",
        examples=["registry.example/videos:1"],
    )
    function: Annotated[str, Field(min_length=3, max_length=253, pattern=FUNCTION_PATTERN)] = Field(
        description="The function as module:attribute. Called with one event; its result goes to the join,"
        " an exception"
        " is a failed attempt.",
        examples=["videos:transcode"],
    )
    executor: Executor = Field(
        default=Executor.THREADS,
        description="Where a plain function runs: Threads, or Processes for work that keeps the processor"
        " busy."
        " An async function always runs on the worker's event loop.",
        examples=["Processes"],
    )


class HandlerSpec(Model):
    """What handles a branch's events."""

    python: PythonHandler = Field(description="Handle events with a Python function.")


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


class ScaleSpec(Model):
    """How many workers a branch has. Set min and max equal for a fixed number."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.min <= self.max", "must not be greater than max", "lower min or raise max", "min"),
    )

    min: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0,
        description="Fewest workers; 0 lets the branch stop while nothing is unsettled.",
        examples=[1],
    )
    max: Annotated[int, Field(ge=1, le=1000)] = Field(default=10, description="Most workers.", examples=[20])
    drain_within_seconds: TimeoutSeconds = Field(
        default=30,
        description="Seconds within which a backlog should be worked off: fewer takes more workers.",
        examples=[60],
    )
    scale_down_after_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=60,
        description="Seconds for which fewer workers must have sufficed before some are stopped.",
        examples=[300],
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
    handler: HandlerSpec = Field(description="What handles the events: exactly one kind.")
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
    pod: PodSpec = Field(
        default=PodSpec(), description="Settings of the workers' pods; a local run uses none of them."
    )
