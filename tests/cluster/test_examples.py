"""Every example does on a cluster what it does on a laptop, by the same manifest: `make examples-cluster`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from proofs.__main__ import EXAMPLES, prove
from proofs.on_cluster import on_a_cluster

if TYPE_CHECKING:
    from cluster.kube import Cluster


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_proves_on_a_cluster_what_it_is_there_to_show(
    example: str, operator: Cluster
) -> None:
    seed = random.randrange(2**32)
    stage = on_a_cluster(example, operator, random.Random(seed))
    print(f"seed {seed}: {await prove(example, stage, is_chaotic=False)}")  # noqa: T201
