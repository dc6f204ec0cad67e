"""What the client library makes of a cluster's broken connections reaches callers as ServerUnavailableError alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from headgate.event import NewEvent
from headgate.streams import PipelineKeys, Publisher, Server, ServerUnavailableError, ensure_groups
from headgate.streams.script import PUBLISH

if TYPE_CHECKING:
    import pytest

    from headgate.streams.server import Call

SECONDS = 2.0
KEYS = ("{a}", "{b}", "{c}", "{d}")


async def test_many_tasks_whose_connections_are_cut_hear_that_the_server_is_unavailable(
    cluster_url: str,
) -> None:
    server, cutter = Server.connect(cluster_url), Server.connect(cluster_url)
    until = time.monotonic() + SECONDS
    served = cut_off = 0

    async def work(key: str) -> None:
        nonlocal served, cut_off
        while time.monotonic() < until:
            try:
                await server.execute(key, "XLEN", key)
                served += 1
            except ServerUnavailableError:
                cut_off += 1

    async def cut() -> None:
        while time.monotonic() < until:
            for key in KEYS:
                with contextlib.suppress(ServerUnavailableError):
                    await cutter.execute(key, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.01)

    try:
        await asyncio.gather(cut(), *(work(key) for key in KEYS for _ in range(5)))
    finally:
        await server.aclose()
        await cutter.aclose()
    assert served > 0
    assert cut_off > 0


async def test_what_is_published_at_once_stays_in_order_when_its_first_part_has_to_be_asked_again(
    cluster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a slot is without a master for a moment, just as the first of several calls comes."""
    server = Server.connect(cluster_url)
    run, failed = server._run_on_node, []

    async def fail_once(call: Call) -> Any:
        if call.script is PUBLISH and not failed:
            failed.append(call)
            return ServerUnavailableError("Redis server: CLUSTERDOWN")
        return await run(call)

    keys = PipelineKeys("test", "canal", 1)
    try:
        await ensure_groups(server, keys, ["a"])
        monkeypatch.setattr(server, "_run_on_node", fail_once)
        await Publisher(server, keys).publish([NewEvent(data=number) for number in range(250)])
        lane = keys.partition(0).lanes[1]
        found = await server.execute(lane, "XRANGE", lane, "-", "+")
    finally:
        await server.aclose()
    assert len(failed) == 1
    assert [int(fields[b"data"]) for _, fields in found] == list(range(250))
