"""`headgate.blocking`: what an application does with a pipeline that is not async, on every kind of server."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from headgate import NewEvent, blocking, connect, count, put, result
from headgate.contract import JoinContract
from headgate.streams import NotProvisionedError
from headgate.worker.composer import Composer
from streams.desk import dead, desk, take

if TYPE_CHECKING:
    from headgate.streams import Server

JOIN = JoinContract(branches=("a",), timeout_seconds=60)


async def test_a_thread_publishes_and_reads_what_became_of_it(server: Server, server_url: str) -> None:
    def publish() -> list[bool]:
        with blocking.connect("canal", namespace="test", url=server_url) as canal:
            assert (canal.namespace, canal.pipeline) == ("test", "canal")
            receipts = canal.publish(NewEvent(id="1", data=1), [NewEvent(id="2", data=2)], [])
            return [receipt.duplicate for receipt in receipts + canal.publish(NewEvent(id="1", data=1))]

    def read() -> None:
        with blocking.connect("canal", namespace="test", url=server_url) as canal:
            assert {record.id: record.results for record in canal.records()} == {"1": {"a": 10}, "2": {}}
            followed = canal.follow()
            assert {next(followed).id, next(followed).id} == {"1", "2"}
            followed.close()
            assert canal.counts("od") == canal.counts() == {"odd": 1}
            assert canal.remove_counts("odd") == 1
            assert (canal.counts(), canal.values(), canal.value("last")) == ({}, {"last": 1}, 1)
            assert [letter.id for letter in canal.dead_letters("a", error="even")] == ["2"]
            assert canal.redrive("a", id="1") == 0
            assert canal.purge("a", error="even") == 1
            figures = canal.measure()
            assert (figures.published, figures.branches["a"].backlog) == (2, 0)

    async with desk(server, ("a",), join=JOIN) as opened:
        assert await asyncio.to_thread(publish) == [False, False, True]
        consumer, composer = await opened.consumer("w1.x", "a"), Composer(opened.contract("a"))
        odd = result(10, count("odd"), put("last", 1))
        await consumer.settle(
            [
                composer.done(each, odd) if each.event.data == 1 else dead(each, b"even")
                for each in await take(consumer, 2)
            ]
        )
        await asyncio.to_thread(read)
    assert not [thread for thread in threading.enumerate() if thread.name == "headgate"]


async def test_many_threads_share_a_connection(server: Server, server_url: str) -> None:
    def publish_all() -> int:
        with (
            blocking.connect("canal", namespace="test", url=server_url) as canal,
            ThreadPoolExecutor(8) as pool,
        ):
            receipts = list(pool.map(lambda n: canal.publish(NewEvent(id=f"{n}", data=n)), range(100)))
            return sum(not each.duplicate for (each,) in receipts)

    async with desk(server, ("a",)) as opened:
        assert await asyncio.to_thread(publish_all) == 100
        assert (await opened.measured()).published == 100


async def test_errors_are_those_of_connect(server: Server, server_url: str) -> None:
    def fail(namespace: str) -> None:
        with blocking.connect("canal", namespace=namespace, url=server_url) as canal:
            canal.purge("a", id="")

    async with desk(server, ("a",)):
        with pytest.raises(NotProvisionedError):
            await asyncio.to_thread(fail, "nowhere")
        with pytest.raises(ValueError, match="id"):
            await asyncio.to_thread(fail, "test")


async def test_inside_an_event_loop_it_is_refused_with_what_to_use_there(
    server: Server, server_url: str
) -> None:
    async with desk(server, ("a",)), connect("canal", namespace="test", url=server_url):
        with (
            pytest.raises(RuntimeError, match=r"use `async with headgate.connect"),
            blocking.connect("canal", namespace="test", url=server_url),
        ):
            pass
