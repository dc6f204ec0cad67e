"""A pipeline's join: whose outcomes make a record, how many are enough, and what becomes of one out of time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from headgate.contract import Complete, OnTimeout
from headgate_operator._api_base import BranchName, Model, Rule, TimeoutSeconds


class OutputSpec(Model):
    """Where records go besides the pipeline's own stream of them."""

    pipeline: Annotated[
        str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ] = Field(
        description="A pipeline of the same namespace and server that gets each record as an event.",
        examples=["catalogue"],
    )


class JoinSpec(Model):
    """Gathers the branches' outcomes of each event into one record, once."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.complete == 'Quorum') == has(self.quorum)",
            "must be given with complete Quorum, and only with that",
            "set both complete: Quorum and quorum, or neither",
            "quorum",
        ),
        Rule(
            "!has(self.quorum) || self.quorum <= size(self.branches)",
            "must not be greater than the number of branches",
            "lower quorum or add branches to the join",
            "quorum",
        ),
    )

    branches: tuple[BranchName, ...] = Field(
        min_length=1,
        max_length=16,
        description="Branches whose outcomes make the record; each must be one of spec.branches.",
        examples=[["thumbnail", "transcode"]],
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    complete: Complete = Field(
        default=Complete.ALL,
        description="When a record is complete. All: every branch has its result. Any: the first result."
        " Quorum: so many results as quorum says. Later ones are counted and dropped.",
        examples=["Quorum"],
    )
    quorum: Annotated[int, Field(ge=1, le=16)] | None = Field(
        default=None, description="Results that make a record complete, for complete Quorum.", examples=[2]
    )
    timeout_seconds: TimeoutSeconds = Field(
        default=600,
        description="Seconds, counted from the first outcome of an event, after which its join is over,"
        " complete or not: see onTimeout.",
        examples=[900],
    )
    on_timeout: OnTimeout = Field(
        default=OnTimeout.EMIT_PARTIAL,
        description="What becomes of a join whose time is up. EmitPartial: a record without the branches that"
        " are missing; it names them. DeadLetter: a dead letter that does, and no record.",
        examples=["DeadLetter"],
    )
    output: OutputSpec | None = Field(
        default=None,
        description="Where records go besides the pipeline's own stream of them; without it nowhere. Each is an event"
        " there, of type headgate.record; its data are id, type and key of the event, complete, results, parts,"
        " failed and missing.",
    )
