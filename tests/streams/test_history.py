"""history.lua: how far back a source is whole."""

from __future__ import annotations

import time

from headgate.event import Lane
from headgate.streams import Server, SourceSettings, ensure_groups, plan_replay, sweep
from streams.desk import desk
from streams.sources import EARLY_MS, LATE_MS, publish_at, settle_all


async def test_it_is_said_how_far_back_the_history_reaches(server: Server) -> None:
    async with desk(server) as canal:
        hour_ms = 3_600_000
        now = int(time.time() * 1000)
        await publish_at(canal, now - 2 * hour_ms, 5)
        await publish_at(canal, now - 60_000, 5)
        await settle_all(canal, "a")
        assert (await plan_replay(server, canal.keys, "a", 0)).reaches_ms == 0
        await ensure_groups(server, canal.keys, ["a"], SourceSettings(max_age_seconds=3600))
        assert (await sweep(server, canal.keys, None)).trimmed == 5
        plan = await plan_replay(server, canal.keys, "a", 0)
        # Nothing of the last hour was trimmed, though the first event that is left is younger.
        assert now - hour_ms <= plan.reaches_ms <= now - hour_ms + 60_000
        assert plan.entries == (5,)


async def test_what_somebody_else_trimmed_bounds_the_history_too(server: Server) -> None:
    async with desk(server) as canal:
        await publish_at(canal, EARLY_MS, 5)
        await publish_at(canal, LATE_MS, 5)
        await settle_all(canal, "a")
        lane = canal.keys.partition(0).lane(Lane.NORMAL)
        await canal.command(lane, "XTRIM", lane, "MAXLEN", 5)
        assert (await plan_replay(server, canal.keys, "a", 0)).reaches_ms == LATE_MS
        await canal.command(lane, "XTRIM", lane, "MAXLEN", 4)
        assert (await plan_replay(server, canal.keys, "a", 0)).reaches_ms == LATE_MS + 1
