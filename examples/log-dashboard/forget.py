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

from headgate.streams import Server, find_pipeline

SLACK_MINUTES = 60  # a handler's time-out, the retries of its settle and clocks that differ take less
CHUNK = 1000


async def forget(url: str, namespace: str, older_than: datetime) -> int:
    """Removes the counters of all minutes before a time, of every partition; how many names those were."""
    first_kept = f"{older_than:%Y-%m-%dT%H:%MZ}"
    server = Server.connect(url)
    try:
        keys, _ = await find_pipeline(server, namespace, "log-dashboard")
        forgotten: set[bytes] = set()
        for partition in keys.all:
            names = await server.execute(partition.counts, "HKEYS", partition.counts)
            old = [name for name in names if name[:1].isdigit() and name.decode() < first_kept]
            for start in range(0, len(old), CHUNK):
                await server.execute(partition.counts, "HDEL", partition.counts, *old[start : start + CHUNK])
            forgotten.update(old)
        return len(forgotten)
    finally:
        await server.aclose()


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
