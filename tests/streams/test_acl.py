"""The rights that docs/guides/servers.md lists are enough, and what is missing is named."""

from __future__ import annotations

import contextlib
import re
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from headgate.contract import JoinContract
from headgate.event import Lane, NewEvent
from headgate.join import read_records
from headgate.streams import (
    DeniedError,
    Gate,
    Publisher,
    Server,
    ServerRefusedError,
    measure,
    read_dead_letters,
    remove_pipeline,
    retire,
    script,
    set_gate,
    sweep,
)
from headgate.streams.wire import open_wire
from streams.desk import QUICK, desk
from streams.fleets import single
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "servers.md"
ROLES = ("publisher", "worker", "operator")
JOIN = JoinContract(branches=("a", "b"), timeout_seconds=600)
ON_CLUSTER = ["+cluster|slots", "+command"]
SCRIPTS = {
    "publisher": [script.PUBLISH, script.SEEN],
    "worker": [
        *(script.REGISTER, script.READ, script.SETTLE, script.BEAT, script.SWEEP, script.EXPIRE),
        *(script.DELIVER, script.OWN, script.CLAIM, script.RATE, script.RIPEN, script.UNPARK),
    ],
    "operator": [
        *(script.ENSURE, script.MEASURE, script.RETIRE, script.SWEEP, script.EXPIRE, script.COUNT),
        *(script.HISTORY, script.REPLAY, script.REDRIVE, script.THROUGH, script.MOVED),
    ],
}


def rights(role: str) -> list[str]:
    """The rules of a user, as the guide has them, for the tests' pipeline."""
    found = re.search(
        rf"^ACL SETUSER headgate-{role} (.*?)\n(?=\n|```)", GUIDE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1].replace("default/videos", "test/canal").split()


async def nodes(server: Server) -> list[redis.Redis]:
    addresses = {await server.address(f"{{{n}}}") for n in range(60)}
    return [redis.Redis(host=host, port=port) for host, port in addresses]


class Users:
    """Users on every node of a server."""

    def __init__(self, server: Server, clients: list[redis.Redis]) -> None:
        self._server = server
        self._clients = clients

    def url(self, role: str, *changes: str) -> str:
        """The URL of a user that has the rights of a role, but for some changes."""
        rules = [*rights(role), *(ON_CLUSTER if self._server.is_cluster else []), *changes]
        for client in self._clients:
            client.execute_command("ACL SETUSER", f"headgate-{role}", "reset", *rules)
        parts = urlsplit(self._server.url)
        return urlunsplit(parts._replace(netloc=f"headgate-{role}:SECRET@{parts.netloc}"))

    def remove(self) -> None:
        """None is left."""
        for client in self._clients:
            with contextlib.closing(client):
                client.execute_command("ACL DELUSER", *(f"headgate-{role}" for role in ROLES))


@pytest.fixture
async def users(server: Server) -> AsyncIterator[Users]:
    made = Users(server, await nodes(server))
    yield made
    made.remove()


async def test_publisher_workers_and_operator_do_all_their_work_with_the_rights_of_the_guide(
    users: Users, tmp_path: Path
) -> None:
    async with aclosing(Server.connect(users.url("operator"))) as server:
        async with desk(server, ("a", "b"), partitions=2, join=JOIN) as canal:
            await set_gate(server, canal.keys, "a", Gate(frozenset({Lane.LOW})), 60)
            await set_gate(server, canal.keys, "a", Gate.OPEN, 1)
            with workers_in(tmp_path, users.url("worker")) as workers:
                of_a = canal.contract("a", claim_after_seconds=1, retry=QUICK)
                victim = workers.start(of_a)
                workers.start(canal.contract("b", claim_after_seconds=1, retry=QUICK))
                async with aclosing(Server.connect(users.url("publisher"))) as theirs:
                    publisher = await Publisher.open(theirs, "test", "canal")
                    await publisher.publish(
                        [
                            *(NewEvent(data={"do": "fail-once"}) for _ in range(20)),
                            NewEvent(id="hopeless", data={"do": "permanent"}),
                            NewEvent(id="held", data={"do": "hold"}),
                        ]
                    )
                workers.wait(lambda: len(workers.effects("begin")) > 20, "handlers")
                victim.kill()
                await retire(server, canal.keys, "a", victim.name)
                workers.start(of_a)
                workers.release()
                for branch in ("a", "b"):
                    figures = await canal.settled(branch, 22)
                    assert (figures.done, figures.dead) == (21, 1)
                assert not any(
                    "NOPERM" in worker.log() or "ACL" in worker.log() for worker in workers.started
                )
            assert len(await read_records(server, canal.keys)) == 22
            assert [letter.id for letter in await read_dead_letters(server, canal.keys, "a")] == ["hopeless"]
            await sweep(server, canal.keys, JOIN)
            assert (await measure(server, [(canal.keys, ("a", "b"))]))[0] is not None
            await remove_pipeline(server, canal.keys)
        assert [key async for key in server.scan("*")] == []


@pytest.mark.parametrize("role", ROLES)
def test_the_guide_grants_every_command_of_every_script(role: str) -> None:
    granted = {rule.removeprefix("+") for rule in rights(role)}
    needed = {
        command.lower()
        for each in SCRIPTS[role]
        for command in re.findall(r"redis\.p?call\('([A-Z]+)'", each.text)
    }
    assert needed <= granted, f"docs/guides/servers.md does not grant headgate-{role} {needed - granted}"


def test_every_script_is_some_roles() -> None:
    ours = {each for scripts in SCRIPTS.values() for each in scripts}
    assert set(script.ALL) == ours, "say above who runs it, and grant its commands in docs/guides/servers.md"


async def test_a_right_that_a_worker_lacks_is_named_and_ends_it_before_it_repeats_half_of_a_script(
    server: Server, users: Users, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, users.url("worker", "-xack")) as workers:
            worker = workers.start(canal.contract(retry=QUICK))
            await canal.publish({"do": "permanent"})
            assert worker.wait_ended() not in {0, None}
            assert worker.said("settle.refused") == 1
            assert "settle.lua runs XACK there" in worker.log()
            assert len(await read_dead_letters(server, canal.keys, "a")) == 1
            users.url("worker")
            workers.start(canal.contract(retry=QUICK, claim_after_seconds=1))
            assert (await canal.settled(events=1)).dead == 1


async def test_a_publisher_without_the_right_is_told_at_once(server: Server, users: Users) -> None:
    async with desk(server) as canal, aclosing(Server.connect(users.url("publisher", "-xadd"))) as theirs:
        with pytest.raises(DeniedError, match=r"publish\.lua runs XADD there.*servers\.md"):
            await Publisher(theirs, canal.keys, retry_seconds=600).publish([NewEvent(data=1)])
        users.url("publisher", "-evalsha")
        with pytest.raises(ServerRefusedError, match="evalsha"):
            await Publisher(theirs, canal.keys, retry_seconds=600).publish([NewEvent(data=1)])


async def test_another_pipelines_keys_are_out_of_reach(server: Server, users: Users) -> None:
    async with desk(server) as canal:
        other = users.url("publisher", "resetkeys", "~hg:{test/other:*")
        async with aclosing(Server.connect(other)) as theirs:
            with pytest.raises(ServerRefusedError, match="NOPERM"):
                await Publisher(theirs, canal.keys).publish([NewEvent(data=1)])


async def test_a_wrong_password_says_what_to_do(users: Users) -> None:
    wrong = users.url("operator").replace("SECRET", "wrong")
    async with aclosing(Server.connect(wrong)) as theirs:
        with pytest.raises(ServerRefusedError, match=r"WRONGPASS.*check the user and the password"):
            await theirs.ping()


async def test_no_password_where_one_is_wanted_says_what_to_do() -> None:
    with single() as node:
        node.call("CONFIG", "SET", "requirepass", "secret")
        async with aclosing(Server.connect(node.url)) as server:
            with pytest.raises(ServerRefusedError, match=r"NOAUTH.*give it in the URL"):
                await server.ping()
            with pytest.raises(ServerRefusedError, match=r"NOAUTH.*give it in the URL"):
                await (await open_wire(server, "key")).call("PING")
