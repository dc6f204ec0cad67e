"""`headgate.connect`: what an application does with a pipeline, on every kind of server."""

from __future__ import annotations

import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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


@pytest.fixture
async def buried(canal: Desk) -> set[str]:
    """Ids of dead letters of branch a: six invoices and four mails, of which each third's error is another."""
    ids = {f"invoice/{n}" for n in range(6)} | {f"mail/{n}" for n in range(4)}
    await canal.publish(*(NewEvent(id=name, type=name.partition("/")[0], data=1) for name in ids))
    for partition in range(2):
        consumer = await canal.consumer("w1.x", "a", partition)
        await consumer.settle(
            [
                dead(each, b"slow" if int(each.event.id[-1]) % 3 else b"KeyError: price")
                for each in await take(consumer)
            ]
        )
    return ids


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


async def test_a_purge_removes_the_dead_letters_that_meet_all_that_is_given_and_no_other(
    connection: Connection, buried: set[str]
) -> None:
    async def left() -> set[str]:
        return {letter.id for letter in await connection.dead_letters("a")}

    assert await connection.purge("a", error="price", type="invoice") == 2
    assert await left() == buried - {"invoice/0", "invoice/3"}
    assert await connection.purge("a", id="mail/1") == 1
    assert await connection.purge("a", id="mail/1") == 0
    assert await connection.purge("a", older=timedelta(hours=1)) == 0
    assert await connection.purge("a", newer=datetime.now(UTC) + timedelta(hours=1)) == 0
    assert await left() == buried - {"invoice/0", "invoice/3", "mail/1"}
    assert await connection.purge("a") == 7
    assert await left() == set()
    assert await connection.redrive("a") == 0


async def test_reading_and_giving_again_choose_dead_letters_in_the_same_words(
    connection: Connection, buried: set[str]
) -> None:
    mails = {name for name in buried if name.startswith("mail")}
    assert {letter.id for letter in await connection.dead_letters("a", type="mail", limit=9)} == mails
    assert await connection.redrive("a", type="mail", newer=timedelta(hours=1)) == 4
    assert await connection.redrive("a", id="invoice/5") == 1
    assert {letter.id for letter in await connection.dead_letters("a")} == buried - mails - {"invoice/5"}


async def test_how_old_a_dead_letter_is_goes_by_a_time_or_by_the_servers_clock(
    connection: Connection, canal: Desk
) -> None:
    minute_ms, now_ms = 60_000, int(time.time() * 1000)
    name = canal.keys.partition(1).dead("a")
    for minutes in (30, 20, 10):
        entry = f"{now_ms - minutes * minute_ms}-0"
        await canal.command(name, "XADD", name, entry, "id", f"{minutes}", "error", "e", "data", "1")

    async def chosen(**which: Any) -> list[str]:
        return [letter.id for letter in await connection.dead_letters("a", **which)]

    assert await chosen(older=timedelta(minutes=15)) == ["30", "20"]
    assert await chosen(newer=timedelta(minutes=15)) == ["10"]
    moments = [datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(minutes=n) for n in (25, 15)]
    assert await chosen(newer=moments[0], older=moments[1]) == ["20"]
    assert await connection.purge("a", older=moments[0]) == 1
    assert await chosen() == ["20", "10"]


@pytest.mark.parametrize(
    ("which", "error", "says"),
    [
        ({"eror": "x"}, TypeError, "eror: dead letters are chosen by error, type, id, older, newer"),
        ({"id": ""}, ValueError, "id: an empty text is no event's"),
        ({"type": None}, TypeError, "type: None is no text"),
        ({"error": None}, TypeError, "error: None is no text"),
        ({"older": None}, TypeError, "older: None is neither a timedelta nor a datetime"),
        ({"newer": datetime(2026, 11, 21)}, ValueError, "newer: 2026-11-21 00:00:00 has no zone"),  # noqa: DTZ001
    ],
)
async def test_words_that_could_choose_more_than_was_meant_are_refused_and_nothing_is_touched(
    connection: Connection, buried: set[str], which: dict[str, Any], error: type[Exception], says: str
) -> None:
    for method in (connection.purge, connection.redrive, connection.dead_letters):
        with pytest.raises(error, match=says):
            await method("a", **which)
    assert len(await connection.dead_letters("a")) == len(buried)


async def counted(canal: Desk, numbers: dict[str, int]) -> None:
    """Counters in every partition, as handlers there leave them."""
    flat = [str(each) for pair in numbers.items() for each in pair]
    for partition in canal.keys.all:
        await canal.command(partition.counts, "HSET", partition.counts, *flat)


async def test_counters_are_read_by_how_their_names_begin(connection: Connection, canal: Desk) -> None:
    await counted(canal, {"sold": 1, "sold:oslo": 2, "sold*": 3, "unsold": 4, "größe": 5})
    assert await connection.counts("sold") == {"sold": 2, "sold*": 6, "sold:oslo": 4}
    assert await connection.counts(prefix="sold*") == {"sold*": 6}
    assert await connection.counts("grö") == {"größe": 10}
    assert await connection.counts("none") == {}
    assert len(await connection.counts()) == 5


async def test_counters_are_removed_from_every_partition_and_begin_again_at_zero(
    connection: Connection, canal: Desk
) -> None:
    await counted(canal, {"old": 3, "new": 4, "größe": 5})
    only = canal.keys.partition(1).counts
    await canal.command(only, "HSET", only, "once", 7)
    assert await connection.remove_counts("old", ["once", "old", "nothing"], (n for n in ["größe"])) == 3
    assert await connection.counts() == {"new": 8}
    assert await connection.remove_counts(["old", "once"]) == 0
    assert await connection.remove_counts() == await connection.remove_counts([]) == 0
    await connection.publish(NewEvent(data=2))
    await counted(canal, {"even": 40})
    assert await connection.remove_counts("even") == 1
    await handle_all(canal)
    assert await connection.counts() == {"even": 1, "new": 8}


async def test_very_many_counters_are_removed_in_few_commands_that_are_none_too_long(
    connection: Connection, canal: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {f"2026-11-21T{n:06}Z": 1 for n in range(4500)}
    await counted(canal, numbers)
    await counted(canal, {"kept": 1})
    lengths: list[int] = []
    execute = Server.execute

    async def seen(server: Server, key: str, *command: Any) -> Any:
        lengths.append(len(command))
        return await execute(server, key, *command)

    monkeypatch.setattr(Server, "execute", seen)
    assert await connection.remove_counts(numbers) == 4500
    assert max(lengths) <= 1002, "the server does nothing else meanwhile"
    assert len(lengths) <= 5 * 2 * 2 + 1, "two round trips a thousand, to two partitions"
    assert await connection.counts() == {"kept": 2}


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
