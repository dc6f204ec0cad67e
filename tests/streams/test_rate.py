"""rate.lua: the tokens of a branch, over all its workers; and that workers keep to them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headgate.contract import SharesContract
from headgate.streams.rate import RateLimit, burst_of
from headgate.streams.waiter import Waiter
from headgate.worker.intake import Intake
from headgate.worker.scripted import ScriptedReader
from streams.desk import Desk, desk
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.streams import Server


def limit(canal: Desk, rate: float) -> RateLimit:
    return RateLimit(canal.wires, canal.keys.partition(0), canal.contract(rate_limit=rate))


async def now_us(canal: Desk) -> int:
    seconds, micros = await canal.command(canal.keys.partition(0).stats, "TIME")
    return int(seconds) * 1_000_000 + int(micros)


async def test_a_full_bucket_gives_its_size_and_says_when_there_is_more(server: Server) -> None:
    async with desk(server) as canal:
        bucket = limit(canal, 100)
        granted, wait_ms = await bucket.take(50)
        assert granted == burst_of(100) == 10
        assert 0 < wait_ms <= 10
        await asyncio.sleep(0.2)
        assert (await bucket.take(50)).tokens == 10


async def test_one_event_a_second_is_one_at_a_time(server: Server) -> None:
    async with desk(server) as canal:
        bucket = limit(canal, 1)
        assert (await bucket.take(5)).tokens == 1
        granted, wait_ms = await bucket.take(5)
        assert granted == 0
        assert 900 < wait_ms <= 1000


async def test_what_was_not_used_is_given_back(server: Server) -> None:
    async with desk(server) as canal:
        bucket, other = limit(canal, 1), limit(canal, 1)
        await bucket.take(1)
        await bucket.give(1)
        assert (await other.take(1)).tokens == 1
        await other.give(0)
        assert (await other.take(1)).tokens == 0


async def test_giving_back_never_makes_more_than_the_bucket_holds(server: Server) -> None:
    async with desk(server) as canal:
        bucket = limit(canal, 100)
        await bucket.give(1000)
        assert (await bucket.take(1000)).tokens == 10


async def test_rivals_get_no_more_than_the_rate_and_the_bucket_together_by_the_servers_clock(
    server: Server,
) -> None:
    rate = 300.0
    async with desk(server) as canal:
        rivals = [limit(canal, rate) for _ in range(5)]
        began = await now_us(canal)
        until = time.monotonic() + 1.0
        tokens = 0
        while time.monotonic() < until:
            tokens += sum(grant.tokens for grant in await asyncio.gather(*(each.take(7) for each in rivals)))
        seconds = (await now_us(canal) - began) / 1e6
    assert tokens <= rate * seconds + burst_of(rate)
    assert tokens >= rate * 0.9


async def test_what_is_given_lets_no_more_through(server: Server) -> None:
    rate = 200.0
    async with desk(server) as canal:
        bucket = limit(canal, rate)
        began = await now_us(canal)
        until = time.monotonic() + 0.7
        used = 0
        while time.monotonic() < until:
            granted = (await bucket.take(10)).tokens
            kept = granted // 2
            used += kept
            await bucket.give(granted - kept)
        seconds = (await now_us(canal) - began) / 1e6
    assert used <= rate * seconds + burst_of(rate)


async def test_an_unused_bucket_leaves_no_key(server: Server) -> None:
    async with desk(server) as canal:
        key = canal.keys.partition(0).rate("a")
        bucket = limit(canal, 100)
        await bucket.take(10)
        assert 0 < await canal.command(key, "PTTL", key) <= 100
        await bucket.give(10)
        await asyncio.sleep(0.01)
        await bucket.give(1)
        assert await canal.command(key, "EXISTS", key) == 0


async def test_a_reader_that_finds_nothing_keeps_no_token(server: Server) -> None:
    async with desk(server) as canal:
        consumer = await canal.consumer()
        waiter = Waiter(server, [consumer], "a")
        bucket = limit(canal, 0.1)
        reader = ScriptedReader(
            [consumer],
            waiter,
            Intake(8, 1),
            lambda _: None,
            SharesContract(),
            ordered=None,
            limit=bucket,
        )
        await reader.turn()
        waiter.close()
        assert (await bucket.take(1)).tokens == 1


async def test_three_workers_begin_no_more_than_the_rate_allows_and_no_less(
    server: Server, tmp_path: Path
) -> None:
    rate, count = 40.0, 120
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            for _ in range(3):
                workers.start(canal.contract(rate_limit=rate, concurrency=8))
            began = await now_us(canal)
            await canal.publish(*({"do": "return"} for _ in range(count)))
            while (seen := len(workers.effects("begin"))) < count:
                seconds = (await now_us(canal) - began) / 1e6
                assert seen <= rate * seconds + burst_of(rate)
                assert seconds < 30
                await asyncio.sleep(0.05)
            figures = await canal.settled(events=count)
    assert figures.done == count
    # Not for want of trying: the rate is used, but for what a busy machine takes.
    assert seconds <= 2 * count / rate
