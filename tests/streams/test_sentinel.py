"""A master that Sentinel knows: every client asks for it, and asks again when it is another."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from headgate.event import NewEvent
from headgate.streams import Doorbell, Publisher, Server, ServerUnavailableError
from headgate.streams.wire import Wires
from streams.desk import desk
from streams.fleets import MASTER, Sentinels, sentinels, until
from streams.servers import free_port
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fleet() -> Iterator[Sentinels]:
    with sentinels(replicas=1) as running:
        yield running


def change_master(fleet: Sentinels) -> None:
    """An orderly failover, as an administrator asks for it: the old master lives on as a replica."""
    old = fleet.master
    fleet.sentinels[0].call("SENTINEL", "FAILOVER", MASTER)
    until(lambda: fleet.master is not old, "another master")
    until(lambda: old.call("ROLE")[0] == "slave", "the old master's new role")


async def test_every_client_goes_to_the_new_master_though_the_old_one_still_answers(
    fleet: Sentinels, tmp_path: Path
) -> None:
    async with aclosing(Server.connect(fleet.url)) as server, desk(server) as canal:
        with workers_in(tmp_path, fleet.url) as workers:
            worker = workers.start(canal.contract())
            wires = Wires(server)
            wire = await wires.get("key")
            assert await wire.call("SET", "key", "1") == b"OK"
            await canal.publish(NewEvent(id="before", data={"do": "return"}))
            await canal.settled(events=1)
            await asyncio.to_thread(change_master, fleet)
            await canal.publish(NewEvent(id="after", data={"do": "return"}))
            assert (await canal.settled(events=2)).done == 2
            assert worker.exit_code is None
            for _ in range(2):
                try:
                    assert await (await wires.get("key")).call("SET", "key", "2") == b"OK"
                    break
                except ServerUnavailableError as error:
                    told = str(error)
            else:
                pytest.fail(f"the wire stayed at the old master: {told}")
            wires.close()
            await asyncio.sleep(0.01)


async def test_a_sentinel_that_is_gone_or_was_never_there_is_passed_over(fleet: Sentinels) -> None:
    fleet.sentinels[0].kill()
    url = fleet.url.replace("redis+sentinel://", f"redis+sentinel://127.0.0.1:{free_port()},")
    async with aclosing(Server.connect(url)) as server:
        await server.ping()
        assert await server.address("key") == ("127.0.0.1", fleet.nodes[0].port)


async def test_a_name_no_sentinel_knows_is_said(fleet: Sentinels) -> None:
    async with aclosing(Server.connect(fleet.url.replace(MASTER, "another"))) as server:
        with pytest.raises(ServerUnavailableError, match="knows of a master 'another' that is up") as told:
            await server.ping()
        assert "redis.asyncio" not in str(told.value)


async def test_sentinels_and_servers_have_users_of_their_own(fleet: Sentinels) -> None:
    fleet.nodes[0].call("ACL", "SETUSER", "app", "on", ">of-servers", "allkeys", "allcommands")
    for sentinel in fleet.sentinels:
        sentinel.call("ACL", "SETUSER", "default", "resetpass", ">of-sentinels")
    url = fleet.url.replace("://", "://app:of-servers@")
    async with aclosing(Server.connect(f"{url}?sentinel_password=of-sentinels")) as server:
        await server.ping()
        assert await server.execute("key", "ACL", "WHOAMI") == b"app"
        wires = Wires(server)
        assert await (await wires.get("key")).call("ACL", "WHOAMI") == b"app"
        wires.close()
        await asyncio.sleep(0.01)
    async with aclosing(Server.connect(url)) as server:
        with pytest.raises(ServerUnavailableError):
            await server.ping()


async def test_a_doorbell_rings_at_the_new_master(fleet: Sentinels) -> None:
    async with aclosing(Server.connect(fleet.url)) as server, desk(server) as canal:
        lane = canal.keys.partition(0).lanes[1]
        await asyncio.to_thread(change_master, fleet)
        ringing = asyncio.create_task(Doorbell(server).wait({lane: "0-0"}, 10))
        await asyncio.sleep(0.2)
        await Publisher(server, canal.keys).publish([NewEvent(data=1)])
        assert await ringing
