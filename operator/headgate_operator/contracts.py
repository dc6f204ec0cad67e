"""What the data plane is told of a pipeline: the API's models in the data plane's own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.contract import (
    BatchSettings,
    BranchContract,
    BreakerContract,
    Executor,
    HttpContract,
    JoinContract,
    Ordering,
    RetryContract,
    RetryRule,
    SharesContract,
)
from headgate.streams.settings import SourceSettings
from headgate_operator.api import DurabilityMode

if TYPE_CHECKING:
    from headgate.streams.keys import PipelineKeys
    from headgate_operator.api import (
        BackpressureSpec,
        BranchSpec,
        CircuitBreakerSpec,
        HandlerSpec,
        JoinSpec,
        RetrySpec,
        SourceSpec,
    )

CLAIM_SECONDS = 10.0
"""How long a worker may say nothing before others take what it holds."""
ORDERED_CLAIM_SECONDS = 3.0
"""The same in an ordered branch: partitions of a dead worker are with others within five seconds."""


@dataclass(frozen=True)
class Place:
    """What workers find where they run, and no manifest can say."""

    signing_keys_file: str = ""
    """The file with the keys of the branch's signing Secret."""
    url: str = ""
    """Where the branch's events are pushed to instead: not beside the worker, nor to the URL of its manifest."""
    networks: tuple[str, ...] = ()
    """Private networks that it may be in besides those of the manifest."""


NOWHERE = Place()


def branch(
    keys: PipelineKeys,
    origin: SourceSpec,
    spec: BranchSpec,
    join: JoinContract | None,
    *,
    backpressure: BackpressureSpec | None,
    place: Place,
) -> BranchContract:
    """What a worker of a branch is started with.

    `join` is None for a branch that takes no part in it, `backpressure` is the pipeline's.
    """
    python = spec.handler.python
    return BranchContract(
        namespace=keys.namespace,
        pipeline=keys.pipeline,
        branch=spec.name,
        function=python.function if python is not None else "",
        http=_http(spec.handler, place),
        partitions=origin.partitions,
        executor=python.executor if python is not None else Executor.THREADS,
        ordering=spec.ordering,
        concurrency=spec.concurrency,
        batch=None
        if spec.batch is None
        else BatchSettings(max_events=spec.batch.max_events, max_wait_seconds=spec.batch.max_wait_seconds),
        rate_limit=spec.rate_limit.events_per_second if spec.rate_limit is not None else 0,
        shares=_shares(spec.backpressure or backpressure),
        filter=spec.filter,
        schema=origin.event_schema,
        timeout_seconds=spec.timeout_seconds,
        retry=_retry(spec.retry),
        join=join,
        claim_after_seconds=ORDERED_CLAIM_SECONDS if spec.ordering is Ordering.KEY else CLAIM_SECONDS,
    )


def join(spec: JoinSpec) -> JoinContract:
    """What the data plane needs to know of a join."""
    return JoinContract(
        branches=spec.branches,
        complete=spec.complete,
        quorum=spec.quorum or 0,
        timeout_seconds=spec.timeout_seconds,
        on_timeout=spec.on_timeout,
        output=spec.output.pipeline if spec.output is not None else None,
    )


def source(spec: SourceSpec) -> SourceSettings:
    """What publishers and sweeps have to know of a source."""
    durability, retention = spec.durability, spec.retention
    return SourceSettings(
        dedupe_window_seconds=spec.dedupe_window_seconds,
        schema=spec.event_schema,
        replicas=durability.replicas if durability.mode is DurabilityMode.REPLICATED else 0,
        wait_seconds=durability.timeout_seconds,
        keep_seconds=retention.keep_seconds,
        max_age_seconds=retention.max_age_seconds,
        max_events=retention.max_events,
    )


def _http(spec: HandlerSpec, place: Place) -> HttpContract | None:
    if spec.http is not None:
        return HttpContract(
            url=place.url or spec.http.url,
            signing_keys_file=place.signing_keys_file if spec.http.signing_secret_ref is not None else "",
            allow_networks=(*spec.http.allow_networks, *place.networks),
            breaker=_breaker(spec.http.circuit_breaker),
        )
    if spec.container is not None:
        return HttpContract(
            url=place.url or f"http://127.0.0.1:{spec.container.port}{spec.container.path}",
            allow_networks=place.networks,
            breaker=_breaker(spec.container.circuit_breaker),
            await_listening=True,
        )
    return None


def _shares(spec: BackpressureSpec | None) -> SharesContract:
    if spec is None:
        return SharesContract()
    return SharesContract(normal=spec.shares.normal, low=spec.shares.low)


def _breaker(spec: CircuitBreakerSpec) -> BreakerContract:
    return BreakerContract(failures=spec.failures, open_seconds=spec.open_seconds)


def _retry(spec: RetrySpec) -> RetryContract:
    return RetryContract(
        max_attempts=spec.max_attempts,
        initial_seconds=spec.initial_seconds,
        factor=spec.factor,
        max_seconds=spec.max_seconds,
        rules=tuple(RetryRule(match=rule.match, retryable=rule.retryable) for rule in spec.error_rules),
    )
