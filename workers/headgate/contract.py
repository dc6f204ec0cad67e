"""What the control plane hands a worker: one branch's settings as one small JSON document.

The control plane writes it (an environment variable of the pod or process), the worker reads it, and nothing else
passes between them except through the streams. Names follow the API's camelCase, durations are in seconds.
Secrets never stand in it: it names the file that holds them.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class ContractError(ValueError):
    """The contract a worker was started with cannot be read; says which member and why."""


class Executor(enum.StrEnum):
    """Where a plain (not async) handler function runs."""

    THREADS = "Threads"
    PROCESSES = "Processes"


class Ordering(enum.StrEnum):
    """Whether events of one key are handled one after another, in the order they were published."""

    NONE = "None"
    KEY = "Key"


class Complete(enum.StrEnum):
    """When a join has enough: every branch's result, the first one, or `quorum` of them."""

    ALL = "All"
    ANY = "Any"
    QUORUM = "Quorum"


class OnTimeout(enum.StrEnum):
    """What becomes of a join whose time is up."""

    EMIT_PARTIAL = "EmitPartial"
    DEAD_LETTER = "DeadLetter"


class RetryRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What to do about errors whose text (`Type: message`) has a match of the regular expression `match`."""

    match: str
    retryable: bool = False


class RetryContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Attempts and the exponential back-off between them, in seconds; the first rule that matches an error decides."""

    max_attempts: int = 5
    initial_seconds: float = 1
    factor: float = 2
    max_seconds: float = 300
    rules: tuple[RetryRule, ...] = ()

    def delay_seconds(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (1 is the first), before jitter."""
        # The exponent is bounded so that a long retry never overflows a float.
        return min(self.max_seconds, self.initial_seconds * self.factor ** min(attempt - 1, 64))


class JoinContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The branches whose outcomes are gathered, when that is enough, and how long after the first one it may take.

    `output` is the pipeline (of the same namespace) that gets each record as an event; None: no other.
    """

    branches: tuple[str, ...]
    complete: Complete = Complete.ALL
    quorum: int = 0
    timeout_seconds: int = 600
    on_timeout: OnTimeout = OnTimeout.EMIT_PARTIAL
    output: str | None = None

    @property
    def needed(self) -> int:
        """Results that make a record complete; 0 stands for every branch's."""
        return {Complete.ALL: 0, Complete.ANY: 1, Complete.QUORUM: self.quorum}[self.complete]


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A handler gets up to `max_events` at once, and waits up to `max_wait_seconds` for a batch to fill."""

    max_events: int = 100
    max_wait_seconds: float = 1


class BreakerContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A target is left alone for `open_seconds` after `failures` failures in a row; 0 failures: never."""

    failures: int = 5
    open_seconds: float = 30


class HttpContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Events pushed to a URL. `signing_keys_file` holds one or two Standard Webhooks keys, the newest first.

    `allow_networks` are the CIDRs of private addresses that may be pushed to; `await_listening` says that the target
    is a container of the same pod, which is waited for when the worker starts.
    """

    url: str
    signing_keys_file: str = ""
    allow_networks: tuple[str, ...] = ()
    breaker: BreakerContract = msgspec.field(default_factory=BreakerContract)
    await_listening: bool = False


class SharesContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Percent of what a worker reads that the lower lanes get although the higher ones never run empty."""

    normal: float = 1
    low: float = 1


class BranchContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A branch as its workers see it: exactly one of `function` (module:attribute) and `http` says what handles.

    `rate_limit` is in events a second over all workers (0: none), `filter` a CEL expression over `event`, `schema` the
    JSON Schema of the source.
    """

    namespace: str
    pipeline: str
    branch: str
    function: str = ""
    http: HttpContract | None = None
    partitions: int = 1
    executor: Executor = Executor.THREADS
    ordering: Ordering = Ordering.NONE
    concurrency: int = 8
    batch: BatchSettings | None = None
    rate_limit: float = 0
    shares: SharesContract = msgspec.field(default_factory=SharesContract)
    filter: str | None = None
    schema: dict[str, Any] | bool | None = None
    timeout_seconds: float = 300
    retry: RetryContract = msgspec.field(default_factory=RetryContract)
    join: JoinContract | None = None
    claim_after_seconds: float = 10
    drain_seconds: float = 30

    def __post_init__(self) -> None:
        if bool(self.function) == (self.http is not None):
            raise ValueError("exactly one of `function` and `http` must be given")

    def encode(self) -> str:
        """The contract as JSON."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def decode(text: str) -> BranchContract:
        """Reads what `encode` wrote; raises ContractError naming the member at fault."""
        try:
            return msgspec.json.decode(text, type=BranchContract)
        except msgspec.MsgspecError as error:
            raise ContractError(
                f"the worker's contract (HEADGATE_CONTRACT) cannot be read: {error}; value: {text[:200]!r}"
            ) from error
