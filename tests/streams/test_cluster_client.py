"""What the client library makes of a cluster's broken connections reaches callers as ServerUnavailableError alone."""

from __future__ import annotations

import asyncio
import contextlib
import time

from headgate.streams import Server, ServerUnavailableError

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
