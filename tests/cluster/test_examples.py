"""Every example does on a cluster what it does on a laptop, by the same manifest: `make examples-cluster`.

All at once, each in a namespace of its own: most of their time is waiting for pods.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from proofs.__main__ import EXAMPLES, prove
from proofs.on_cluster import on_a_cluster

if TYPE_CHECKING:
    from cluster.kube import Cluster


async def test_every_example_proves_on_a_cluster_what_it_is_there_to_show(operator: Cluster) -> None:
    seed = random.randrange(2**32)
    stages = [on_a_cluster(example, operator, random.Random(f"{seed}/{example}")) for example in EXAMPLES]
    proofs = (
        prove(example, stage, is_chaotic=False) for example, stage in zip(EXAMPLES, stages, strict=True)
    )
    found = await asyncio.gather(*proofs, return_exceptions=True)
    failed = [
        ExceptionGroup(example, [each])
        for example, each in zip(EXAMPLES, found, strict=True)
        if isinstance(each, Exception)
    ]
    if failed:
        raise ExceptionGroup(f"seed {seed}", failed)
    print(f"seed {seed}: {found}")  # noqa: T201
