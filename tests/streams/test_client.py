"""`headgate.connect`: what an application does with a pipeline, on every kind of server."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from headgate import NewEvent, connect, count, put, result
from headgate.client import URL_VARIABLE
from headgate.contract import JoinContract
from headgate.streams import NotProvisionedError, Server
from headgate.worker.composer import Composer
from streams.desk import Desk, dead, desk, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate import Connection

JOIN = JoinContract(branches=("a",), timeout_seconds=60)


@pytest.fixture
async def canal(server: Server) -> AsyncIterator[Desk]:
    async with desk(server, ("a", "b"), partitions=2, join=JOIN) as opened:
        yield opened


@pytest.fixture
async def connection(canal: Desk, server_url: str) -> AsyncIterator[Connection]:
    async with connect(canal.keys.pipeline, namespace="test", url=server_url) as opened:
        yield opened


async def handle_all(canal: Desk) -> None:
    """Branch a handles what is there, and gives up on odd numbers."""
    for partition in range(2):
        consumer = await canal.consumer("w1.x", "a", partition)
        composer = Composer(canal.contract("a"))
        await consumer.settle(
            [
                dead(each, b"odd")
                if each.event.data % 2
                else composer.done(
                    each,
                    result(
                        each.event.data * 10, count("even"), put(f"last:{each.event.id}", each.event.data)
                    ),
                )
                for each in await take(consumer)
            ]
        )


async def test_events_are_published_one_by_one_or_as_lists_and_each_id_once(connection: Connection) -> None:
    receipts = await connection.publish(
        NewEvent(id="1", data=1), [NewEvent(id="2", data=2), NewEvent(id="3", data=3)]
    )
    assert [receipt.duplicate for receipt in receipts] == [False] * 3
    (again,) = await connection.publish(NewEvent(id="2", data=2))
    assert again.duplicate
    figures = await connection.measure()
    assert figures.published == 3
    assert {name: branch.backlog for name, branch in figures.branches.items()} == {"a": 3, "b": 3}


async def test_what_handlers_did_is_read_in_a_line_each(connection: Connection, canal: Desk) -> None:
    await connection.publish(NewEvent(id=f"e{n}", data=n) for n in range(4))
    await handle_all(canal)
    assert await connection.counts() == {"even": 2}
    assert await connection.values() == {"last:e0": 0, "last:e2": 2}
    assert await connection.value("last:e2") == 2
    assert await connection.value("last:e1") is None
    assert {record.id: record.results for record in await connection.records()} == {
        "e0": {"a": 0}, "e1": {}, "e2": {"a": 20}, "e3": {},
    }  # fmt: skip
    assert {letter.id for letter in await connection.dead_letters("a")} == {"e1", "e3"}
    assert await connection.dead_letters("a", error="even") == []
    assert await connection.redrive("a", error="odd") == 2
    assert await connection.dead_letters("a") == []


async def test_records_are_followed_from_the_first_on_each_once(connection: Connection, canal: Desk) -> None:
    await connection.publish(NewEvent(id=f"e{n}", data=n) for n in (2, 4))
    await handle_all(canal)
    async with aclosing(connection.follow()) as following:
        seen = [(await anext(following)).id for _ in range(2)]
        await connection.publish(NewEvent(id="e6", data=6))
        await handle_all(canal)
        seen.append((await anext(following)).id)
    assert sorted(seen) == ["e2", "e4", "e6"]
    assert seen[-1] == "e6"


async def test_the_server_may_be_named_by_the_environment(
    canal: Desk, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, server_url)
    async with connect(canal.keys.pipeline, namespace="test") as opened:
        assert (await opened.measure()).published == 0


async def test_a_pipeline_that_is_not_there_and_a_server_nobody_named_are_told(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotProvisionedError, match="default/nothing"):
        async with connect("nothing", url=server_url):
            pass
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=r"give url=, or set HEADGATE_REDIS_URL"):
        async with connect("canal"):
            pass
