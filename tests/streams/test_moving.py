"""A pipeline on another server: what it leaves on the old one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.event import NewEvent
from headgate.streams import Removal, Server, ServerUnavailableError, ensure_groups
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.events import Severity
from headgate_operator.moving import farewell
from headgate_operator.pipeline import Pipeline, load_pipeline
from streams.desk import desk, done, take
from streams.servers import redis7

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def pipeline() -> Pipeline:
    handler = {"python": {"image": "i:1", "function": "m:f"}}
    return load_pipeline(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": "test", "name": "canal"},
            "spec": {"branches": [{"name": "a", "handler": handler}]},
        }
    )


@pytest.fixture
async def elsewhere() -> AsyncIterator[Server]:
    """A server that no other test has a pipeline on."""
    with redis7() as url:
        connected = Server.connect(url)
        yield connected
        await connected.aclose()


async def test_unsettled_events_on_the_old_server_are_counted_those_of_branches_that_drain_too(
    server: Server, elsewhere: Server
) -> None:
    async with desk(server, ("a", "b"), partitions=3) as canal:
        await canal.publish(*(NewEvent(data=n) for n in range(10)))
        await ensure_groups(server, canal.keys, ["a"], removal=Removal(drain=True))
        notice = await farewell(pipeline(), server, elsewhere)
        assert notice is not None
        assert (notice.severity, notice.reason) == (Severity.WARNING, "ServerChanged")
        assert "20 unsettled events are left on the old one" in notice.note
        assert "--redis-url OLD --until-settled" in notice.note
        for branch in ("a", "b"):
            for number in range(3):
                consumer = await canal.consumer("w1.x", branch, number)
                await consumer.settle([done(each) for each in await take(consumer)])
        notice = await farewell(pipeline(), server, elsewhere)
        assert notice is not None
        assert (notice.severity, notice.note) == (
            Severity.NORMAL,
            "on another Redis server; the old one had nothing left",
        )


async def test_the_same_server_by_another_name_is_not_told_of(valkey: Server, valkey_url: str) -> None:
    again = Server.connect(f"{valkey_url}?socket_timeout=4")
    try:
        async with desk(valkey) as canal:
            await canal.publish(1)
            assert await farewell(pipeline(), valkey, again) is None
    finally:
        await again.aclose()


async def test_an_old_server_that_is_gone_holds_nothing_up_and_its_events_are_unknown(valkey: Server) -> None:
    gone = Server.connect("redis://127.0.0.1:1")
    notice = await farewell(pipeline(), gone, valkey)
    assert notice is not None
    assert "an unknown number of unsettled events are left" in notice.note
    with pytest.raises(ServerUnavailableError):
        await farewell(pipeline(), valkey, gone)
    await gone.aclose()
