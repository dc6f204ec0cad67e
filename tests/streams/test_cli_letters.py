"""`headgate dead-letters`, `redrive`, `purge`, `replay`, `counts` and `values` on a cluster.

The scripts behind them have tests of their own on every kind of server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headgate.contract import JoinContract, OnTimeout
from headgate.event import NewEvent
from headgate.streams import Server, SourceSettings, ensure_groups, read_dead_letters, sweep
from streams.desk import Desk, dead, desk, done, eventually, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SLOW = b"TimeoutError: slow"
ERRORS = {"o1": SLOW, "o2": b"KeyError: 'x'", "o3": SLOW}


@pytest.fixture
async def server(cluster_url: str) -> AsyncIterator[Server]:
    async with contextlib.aclosing(Server.connect(cluster_url)) as connected:
        yield connected


class Said(msgspec.Struct):
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


async def start(url: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headgate_cli.main",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"HEADGATE_REDIS_URL": url},
    )


async def headgate(url: str, verb: str, *arguments: str, typed: str = "") -> Said:
    process = await start(url, verb, "-p", "test/canal", *arguments)
    out, err = await process.communicate(typed.encode())
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


async def bury(canal: Desk, events: Sequence[NewEvent]) -> None:
    await canal.publish(*events)
    consumer = await canal.consumer()
    while deliveries := await take(consumer):
        await consumer.settle([dead(each, ERRORS.get(each.event.id, b"no")) for each in deliveries])


async def orders(canal: Desk) -> None:
    await bury(canal, [NewEvent(data=name, id=name, type="order") for name in ERRORS])


async def left(canal: Desk) -> list[str]:
    return [letter.id for letter in await read_dead_letters(canal.server, canal.keys, "a", 1000)]


async def test_dead_letters_are_lines_of_json_with_all_there_is_to_know(server: Server) -> None:
    async with desk(server) as canal:
        await orders(canal)
        said = await headgate(server.url, "dead-letters", "-b", "a", "--error", "Timeout")
        rows: list[dict[str, Any]] = [json.loads(line) for line in said.out.splitlines()]
        assert [row["id"] for row in rows] == ["o1", "o3"]
        assert rows[0].keys() == {
            *("id", "error", "attempts", "type", "key", "data", "publishedMs", "deadMs", "worker"),
            *("traceparent", "root", "entry", "partition"),
        }
        row = rows[0]
        assert (row["error"], row["attempts"], row["worker"]) == (SLOW.decode(), 1, "w1.x")
        assert (row["type"], row["data"]) == ("order", "o1")
        assert abs(row["deadMs"] - row["publishedMs"]) < 60_000
        assert (await headgate(server.url, "dead-letters", "-b", "a", "--older", "1h")).out == ""
        wrong = await headgate(server.url, "dead-letters", "-b", "unknown")
        assert (wrong.code, wrong.err) == (
            1,
            "headgate: --branch: pipeline test/canal has no branch 'unknown'; it has a\n",
        )


async def test_redrive_gives_what_it_said_it_would_and_leaves_the_rest(server: Server) -> None:
    async with desk(server) as canal:
        await orders(canal)
        some = ("redrive", "-b", "a", "--error", "Timeout", "--newer", "1h")
        assert (await headgate(server.url, *some, "--dry-run")).out == (
            "2 dead letters would be given again\n"
        )
        assert len(await left(canal)) == 3
        said = await headgate(server.url, *some, "--rate", "1000")
        assert (said.code, said.out) == (0, "2 dead letters given to a again\n")
        assert await left(canal) == ["o2"]
        assert (await headgate(server.url, *some)).out == "0 dead letters given to a again\n"


async def test_a_redrive_broken_off_says_how_far_it_came_and_loses_nothing(server: Server) -> None:
    async with desk(server) as canal:
        await bury(canal, [NewEvent(data=number) for number in range(40)])
        process = await start(server.url, "redrive", "-p", "test/canal", "-b", "a", "--rate", "10")

        async def some_are_given() -> bool:
            return (await canal.measured()).branches["a"].redriven >= 3

        await eventually(some_are_given, "three given again")
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        given = (await canal.measured()).branches["a"].redriven
        assert (process.returncode, err) == (130, b"")
        assert out.decode() == f"{given} dead letters given to a again\n"
        assert 3 <= given < 40
        figure = (await canal.measured()).branches["a"]
        assert (figure.dead_letters, figure.undelivered) == (40 - given, given)


async def test_purge_asks_first(server: Server) -> None:
    async with desk(server) as canal:
        await orders(canal)
        for typed in ("", "n\n"):
            said = await headgate(server.url, "purge", "-b", "a", "--type", "order", typed=typed)
            assert said.code == 1
            assert "Remove 3 dead letters of a for good?" in said.err
            assert "nothing was removed; --yes does not ask" in said.err
        assert (await headgate(server.url, "purge", "-b", "a", "--dry-run")).out == (
            "3 dead letters would be removed\n"
        )
        assert len(await left(canal)) == 3
        assert (await headgate(server.url, "purge", "-b", "a", "--id", "o1", typed="y\n")).out == (
            "1 dead letters removed\n"
        )
        assert (await headgate(server.url, "purge", "-b", "a", "--yes")).out == "2 dead letters removed\n"
        assert await left(canal) == []


async def test_joins_whose_time_was_up_are_listed_and_purged_too(server: Server) -> None:
    join = JoinContract(branches=("a", "b"), timeout_seconds=0, on_timeout=OnTimeout.DEAD_LETTER)
    async with desk(server, ("a", "b"), join=join) as canal:
        await canal.publish(NewEvent(data=1, id="x"))
        consumer = await canal.consumer()
        await consumer.settle([done(delivery, b"7") for delivery in await take(consumer)])
        assert (await sweep(server, canal.keys, join)).joins == 1
        (row,) = [
            json.loads(line)
            for line in (await headgate(server.url, "dead-letters", "--join")).out.splitlines()
        ]
        assert (row["id"], row["results"], row["missing"]) == ("x", {"a": 7}, ["b"])
        assert row["error"] == "the join timed out"
        assert (await headgate(server.url, "purge", "--join", "--yes")).out == "1 dead letters removed\n"
        assert (await headgate(server.url, "dead-letters", "--join")).out == ""
        assert (await headgate(server.url, "purge", "--join")).out == "there are no dead letters to remove\n"


async def test_replay_says_what_is_read_again_and_refuses_what_the_history_has_not(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        await ensure_groups(server, canal.keys, ["a"], SourceSettings(max_events=20))
        await canal.publish(*(NewEvent(data=number, key="same") for number in range(30)))
        of_key = canal.keys.partition_of("same")
        consumer = await canal.consumer(partition=of_key)
        await consumer.settle([done(delivery) for delivery in await take(consumer)])
        assert (await sweep(server, canal.keys, None)).trimmed == 20
        said = await headgate(server.url, "replay", "-b", "a", "--since", "1h")
        assert said.code == 1
        assert "is further back than the history, which is whole only from 20" in said.err
        assert "--from-oldest" in said.err
        dry = await headgate(server.url, "replay", "-b", "a", "--from-oldest", "--dry-run")
        lines = dry.out.splitlines()
        assert f"partition {of_key}: 10 events" in lines
        assert f"partition {1 - of_key}: 0 events" in lines
        assert lines[-1] == "a would read 10 events again"
        assert (await canal.measured()).branches["a"].backlog == 0
        told = await headgate(server.url, "replay", "-b", "a", "--from-oldest")
        assert told.out.splitlines()[-1] == "a reads 10 events again"
        assert (await canal.measured()).branches["a"].undelivered == 10
        future = await headgate(server.url, "replay", "-b", "a", "--since", "2999-01-01T00:00:00Z")
        assert (future.code, "--since: 2999-01-01T00:00:00Z is to come" in future.err) == (2, True)
        wrong = await headgate(server.url, "replay", "-b", "unknown", "--since", "1h")
        assert "--branch: pipeline test/canal has no branch 'unknown'; it has a" in wrong.err


async def test_counts_and_values_are_printed_as_one_object(server: Server) -> None:
    async with desk(server, partitions=2) as canal:
        for partition, sold in zip(canal.keys.all, (3, 4), strict=True):
            await canal.command(partition.counts, "HSET", partition.counts, "sold", sold, "unsold", 1)
        home = canal.keys.partition(canal.keys.partition_of("stock/1"))
        await canal.command(home.values, "HSET", home.values, "stock/1", '{"left":2}')
        assert json.loads((await headgate(server.url, "counts")).out) == {"sold": 7, "unsold": 2}
        assert (await headgate(server.url, "counts", "--prefix", "sol")).out == '{"sold":7}\n'
        assert (await headgate(server.url, "counts", "--prefix", "none")).out == "{}\n"
        assert json.loads((await headgate(server.url, "values")).out) == {"stock/1": {"left": 2}}
        assert (await headgate(server.url, "values", "--key", "stock/1")).out == '{"left":2}\n'
        assert (await headgate(server.url, "values", "--key", "nothing")).out == "null\n"
