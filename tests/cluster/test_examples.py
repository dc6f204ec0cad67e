"""Every example does on a cluster what it does on a laptop, by the same manifest: `make examples-cluster`.

One after the other, each in a namespace of its own: side by side they would be short of processors, and prove less.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from proofs.__main__ import EXAMPLES, prove
from proofs.on_cluster import on_a_cluster

if TYPE_CHECKING:
    from cluster.kube import Cluster


async def test_every_example_proves_on_a_cluster_what_it_is_there_to_show(operator: Cluster) -> None:
    seed = random.randrange(2**32)
    found, failed = {}, []
    for example in EXAMPLES:
        stage = on_a_cluster(example, operator, random.Random(f"{seed}/{example}"))
        try:
            found[example] = await prove(example, stage, is_chaotic=False)
        except Exception as error:  # noqa: BLE001 - one failure does not keep the others from being tried
            failed.append(ExceptionGroup(example, [error]))
    if failed:
        raise ExceptionGroup(f"seed {seed}", failed)
    print(f"seed {seed}: {found}")  # noqa: T201
