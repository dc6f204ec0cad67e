"""Removes the counters of minutes that nobody counts into any more. A counter stays until somebody removes it.

    python examples/log-dashboard/forget.py --redis-url redis://localhost:6379

A worker counts a line that is older than `KEPT_MINUTES` as astray. What is an hour older still is never written again,
so that a counter can be removed while workers count others. Prints how many it removed; totals stay.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from datetime import UTC, datetime, timedelta

from logs import KEPT_MINUTES

from headgate import connect

SLACK_MINUTES = 60  # a handler's time-out, the retries of its settle and clocks that differ take less


async def forget(url: str, namespace: str, older_than: datetime) -> int:
    """Removes the counters of all minutes before a time; how many those were."""
    first_kept = f"{older_than:%Y-%m-%dT%H:%MZ}"
    async with connect("log-dashboard", namespace=namespace, url=url) as pipeline:
        return await pipeline.remove_counts(
            name for name in await pipeline.counts() if name[:1].isdigit() and name < first_kept
        )


def main() -> None:
    """Forgets once; run it every hour."""
    parser = argparse.ArgumentParser(
        description="Removes counters of minutes that nobody counts into any more."
    )
    parser.add_argument(
        "--redis-url",
        default=os.environ.get("HEADGATE_REDIS_URL"),
        help="server of the pipeline; HEADGATE_REDIS_URL",
    )
    parser.add_argument(
        "--namespace", default=os.environ.get("HEADGATE_NAMESPACE", "default"), help="of the pipeline"
    )
    asked = parser.parse_args()
    if not asked.redis_url:
        parser.error("--redis-url: no server is named; give it, or set HEADGATE_REDIS_URL")
    older_than = datetime.now(UTC) - timedelta(minutes=KEPT_MINUTES + SLACK_MINUTES)
    removed = asyncio.run(forget(asked.redis_url, asked.namespace, older_than))
    print(f"{removed} counters of minutes before {older_than:%Y-%m-%dT%H:%MZ} removed")


if __name__ == "__main__":
    main()
