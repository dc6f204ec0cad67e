"""What the control plane hands a worker: one branch's settings as one small JSON document.

The control plane writes it (an environment variable of the pod or process), the worker reads it, and nothing else
passes between them except through the streams. Names follow the API's camelCase, durations are in seconds.
"""

from __future__ import annotations

import enum

import msgspec


class ContractError(ValueError):
    """The contract a worker was started with cannot be read; says which member and why."""


class Executor(enum.StrEnum):
    """Where a plain (not async) handler function runs."""

    THREADS = "Threads"
    PROCESSES = "Processes"


class RetryContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Attempts and the exponential back-off between them, in seconds."""

    max_attempts: int = 5
    initial_seconds: float = 1
    factor: float = 2
    max_seconds: float = 300

    def delay_seconds(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (1 is the first), before jitter."""
        # The exponent is bounded so that a long retry never overflows a float.
        return min(self.max_seconds, self.initial_seconds * self.factor ** min(attempt - 1, 64))


class JoinContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The branches whose outcomes are gathered, and how many seconds the gathering waits after the first one."""

    branches: tuple[str, ...]
    timeout_seconds: int = 600


class BranchContract(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A branch as its workers see it."""

    namespace: str
    pipeline: str
    branch: str
    function: str
    partitions: int = 1
    executor: Executor = Executor.THREADS
    concurrency: int = 8
    timeout_seconds: float = 300
    retry: RetryContract = msgspec.field(default_factory=RetryContract)
    join: JoinContract | None = None
    claim_after_seconds: float = 10
    drain_seconds: float = 30

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
