"""The operator's crashes in small, a sample of the points: `make crash-operator` strikes them all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from chaos.operator.campaign import Campaign

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.apiserver import ApiServer

POINTS = 48


async def test_an_operator_killed_before_or_after_a_write_is_replaced_and_ends_in_the_same_state(
    api_server: ApiServer, tmp_path: Path
) -> None:
    seed = str(random.randrange(2**32))
    campaign = Campaign(api_server, tmp_path, seed, print)
    figures = await campaign.run(lanes=4, sample=POINTS, twice=1)
    print(f"seed {seed}: {figures}")  # noqa: T201
    assert campaign.tally.differences == [], f"seed {seed}"
    assert figures["unmet"] <= campaign.points.most_unmet
    assert figures["crashPoints"] >= POINTS * 0.9
    assert figures["crashes"] > figures["crashPoints"]
