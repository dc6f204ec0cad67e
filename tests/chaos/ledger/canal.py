"""The pipelines of the ledger and the contracts of its workers."""

from __future__ import annotations

from chaos.ledger.handlers import ORDER, OUT
from chaos.ledger.plan import BRANCHES
from headgate.contract import BatchSettings, BranchContract, JoinContract, Ordering, RetryContract
from headgate.streams import PipelineKeys, Server, ensure_groups

NAMESPACE, PIPELINE = "test", "ledger"
PARTITIONS = 4
CLAIM_SECONDS = 1.0
KEYS = PipelineKeys(NAMESPACE, PIPELINE, PARTITIONS)
OUT_KEYS = PipelineKeys(NAMESPACE, OUT, PARTITIONS)
ORDER_KEYS = PipelineKeys(NAMESPACE, ORDER, PARTITIONS)
JOIN = JoinContract(branches=BRANCHES, timeout_seconds=86400)
# A death is an attempt: whatever becomes a dead letter without being planned to was lost by us.
RETRY = RetryContract(max_attempts=1000, initial_seconds=0.1, factor=1, max_seconds=0.1)


async def provision(server: Server) -> None:
    """Makes the three pipelines; nobody reads the two that are emitted into, so all of it stays there."""
    await ensure_groups(server, KEYS, BRANCHES)
    for keys in (OUT_KEYS, ORDER_KEYS):
        await ensure_groups(server, keys, ("nobody",))


def contract(branch: str) -> BranchContract:
    """What a worker of a branch is told."""
    return BranchContract(
        namespace=NAMESPACE,
        pipeline=PIPELINE,
        branch=branch,
        function=f"chaos.ledger.handlers:{branch}",
        partitions=PARTITIONS,
        concurrency=8,
        ordering=Ordering.KEY if branch == "ordered" else Ordering.NONE,
        batch=BatchSettings(max_events=50, max_wait_seconds=0.05) if branch == "batching" else None,
        filter="!has(event.data.skipped)" if branch == "batching" else None,
        retry=RETRY,
        join=JOIN,
        claim_after_seconds=CLAIM_SECONDS,
        drain_seconds=5,
    )
