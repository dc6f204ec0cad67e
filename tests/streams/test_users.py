"""A pipeline's own user: all its work and nobody else's, on every node, whatever became of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest

from headgate import connect, count, emit, put
from headgate.contract import JoinContract
from headgate.event import NewEvent
from headgate.relay import Relay
from headgate.streams import (
    PipelineKeys,
    Publisher,
    Server,
    ServerRefusedError,
    ServerUnavailableError,
    StreamsError,
    ensure_groups,
    measure,
    read_dead_letters,
    read_values,
)
from headgate.streams.nodes import Nodes
from headgate.streams.users import COMMANDS, PipelineUser, Users, UsersForbiddenError
from headgate.worker.composer import Composer
from streams.desk import QUICK, dead, desk, eventually, take
from streams.fleets import cluster_with_replicas, sentinels, single
from streams.test_acl import GUIDE, ON_CLUSTER, rights
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CANAL = PipelineUser("test", "canal", ("first-password",))


@contextlib.asynccontextmanager
async def users_at(url: str) -> AsyncIterator[Users]:
    """The users of a server, by an operator that has just started."""
    nodes = Nodes(url)
    try:
        yield Users(nodes)
    finally:
        await nodes.aclose()


@pytest.fixture
async def users(server: Server) -> AsyncIterator[Users]:
    """The users of a server on which the test leaves none."""
    async with users_at(server.url) as made:
        yield made
        await made.remove(CANAL.name)


def url_of(server_url: str, user: PipelineUser) -> str:
    """The URL of a server for the one who logs in with the user's first password."""
    parts = urlsplit(server_url)
    return urlunsplit(parts._replace(netloc=f"{user.name}:{user.passwords[0]}@{parts.netloc}"))


async def logs_in(server_url: str, user: PipelineUser, password: str) -> bool:
    async with aclosing(
        Server.connect(url_of(server_url, user).replace(user.passwords[0], password))
    ) as theirs:
        with contextlib.suppress(ServerRefusedError):
            await theirs.ping()
            return True
        return False


def guided(role: str) -> set[str]:
    """The commands that the guide gives a role."""
    rights = re.search(rf"ACL SETUSER headgate-{role} .*?\n\n", GUIDE.read_text() + "\n\n", re.DOTALL)
    assert rights is not None
    return {word[1:] for word in rights[0].split("```")[0].split() if word.startswith("+")}


def test_a_pipelines_user_has_the_commands_of_the_guides_publisher_and_worker() -> None:
    assert set(COMMANDS) == guided("publisher") | guided("worker"), (
        "see COMMANDS in headgate/streams/users.py"
    )


async def test_a_pipelines_user_publishes_handles_and_settles(
    server: Server, users: Users, tmp_path: Path
) -> None:
    await users.ensure(CANAL)
    url = url_of(server.url, CANAL)
    join = JoinContract(branches=("a",), timeout_seconds=600)
    async with desk(server, partitions=2, join=join) as canal:
        with workers_in(tmp_path, url) as workers:
            worker = workers.start(canal.contract(claim_after_seconds=1, retry=QUICK))
            async with aclosing(Server.connect(url)) as theirs:
                publisher = await Publisher.open(theirs, "test", "canal")
                await publisher.publish(
                    [
                        *(NewEvent(data={"do": "fail-once"}) for _ in range(20)),
                        NewEvent(id="hopeless", data={"do": "permanent"}),
                    ]
                )
            figures = await canal.settled(events=21)
            assert (figures.done, figures.dead) == (20, 1)
            assert "NOPERM" not in worker.log()
        assert [letter.id for letter in await read_dead_letters(server, canal.keys, "a")] == ["hopeless"]


async def test_an_application_measures_and_removes_counters_and_dead_letters_with_it(
    server: Server, users: Users
) -> None:
    await users.ensure(CANAL)
    url = url_of(server.url, CANAL)
    async with desk(server) as canal, connect("canal", namespace="test", url=url) as theirs:
        await theirs.publish(NewEvent(data=n, id=f"{n}") for n in range(3))
        consumer = await canal.consumer()
        first, *others = await take(consumer)
        counted = Composer(canal.contract()).done(first, count("old"))
        await consumer.settle([counted, *map(dead, others)])
        assert await theirs.remove_counts(await theirs.counts()) == 1
        assert await theirs.redrive("a", id="1", newer=timedelta(hours=1)) == 1
        assert await theirs.purge("a") == 1
        figures = await theirs.measure()
        assert (figures.published, figures.branches["a"].dead_letters) == (3, 0)


async def test_what_is_there_already_is_not_written_again(server: Server, users: Users) -> None:
    everywhere = len(await users.nodes.addresses())
    assert await users.ensure(CANAL) == (everywhere, {})
    assert await users.ensure(CANAL) == (0, {})
    async with users_at(server.url) as successor:
        assert await successor.ensure(CANAL) == (0, {})
    await users.nodes.ask(("ACL", "SETUSER", CANAL.name, "+flushall"))
    assert await users.ensure(CANAL) == (everywhere, {})
    assert await users.ensure(CANAL) == (0, {})
    await users.nodes.ask(("ACL", "SETUSER", CANAL.name, "nopass"))
    assert await users.ensure(CANAL) == (everywhere, {})
    assert not await logs_in(server.url, CANAL, "wrong")


async def test_its_reach_ends_at_its_own_keys_but_for_adding_to_pipelines_of_its_namespace(
    server: Server, users: Users
) -> None:
    await users.ensure(CANAL)
    own, near, far = (f"hg:{{{name}:0}}" for name in ("test/canal", "test/other", "elsewhere/third"))
    async with aclosing(Server.connect(url_of(server.url, CANAL))) as theirs:
        for tag in (own, near):
            await theirs.execute(f"{tag}:normal", "XADD", f"{tag}:normal", "*", "data", "1")
        assert await theirs.execute(f"{own}:normal", "XLEN", f"{own}:normal") == 1
        for tag, command in (
            (near, "XRANGE {} - +"),
            (near, "XLEN {}"),
            (near, "XTRIM {} MAXLEN 0"),
            (near, "DEL {}"),
            (far, "XADD {} * data 1"),
            (own, "FLUSHALL"),
            (own, "KEYS *"),
            (own, "CONFIG GET requirepass"),
            (own, "ACL SETUSER x"),
        ):
            lane = f"{tag}:normal"
            with pytest.raises(ServerRefusedError, match="NOPERM"):
                await theirs.execute(lane, *command.format(lane).split())
        settings = f"{near}:settings"
        await theirs.execute(settings, "HMGET", settings, "partitions")
        with pytest.raises(ServerRefusedError, match="NOPERM"):
            await theirs.execute(settings, "HSET", settings, "partitions", "1")


async def test_a_relay_delivers_within_the_namespace_and_keeps_what_is_for_another(
    server: Server, users: Users
) -> None:
    await users.ensure(CANAL)
    near, far = PipelineKeys("test", "other", 3), PipelineKeys("elsewhere", "third")
    for keys in (near, far):
        await ensure_groups(server, keys, ["x"])
    async with desk(server, partitions=2) as canal:
        (receipt,) = await canal.publish(1)
        consumer = await canal.consumer(partition=receipt.partition)
        (delivery,) = await take(consumer)
        events = [NewEvent(data=number) for number in range(4)]
        effects = [put(f"k{number}", number) for number in range(4)]
        effects += [emit(event, to=name) for event in events for name in ("elsewhere/third", "other")]
        await consumer.settle([Composer(canal.contract()).done(delivery, effects)])
        async with aclosing(Server.connect(url_of(server.url, CANAL))) as theirs:
            relay = Relay(theirs, canal.keys)
            await relay.run()
            assert await relay.run() == 0
        assert await read_values(server, canal.keys) == {f"k{number}": number for number in range(4)}
        (found,) = await measure(server, [(near, ("x",))])
        assert found is not None
        assert found.published == 4
        assert (await canal.measured()).outbox == 4


async def test_a_password_gives_way_to_another_without_a_moment_in_which_neither_works(
    server: Server, users: Users
) -> None:
    await users.ensure(CANAL)
    both = replace(CANAL, passwords=("first-password", "second-password"))
    new = replace(CANAL, passwords=("second-password",))
    steps = ((CANAL, (True, False)), (both, (True, True)), (new, (False, True)))
    for user, works in steps:
        await users.ensure(user)
        found = [await logs_in(server.url, user, password) for password in both.passwords]
        assert tuple(found) == works


async def test_a_user_that_is_removed_is_out_at_once(users: Users) -> None:
    await users.ensure(CANAL)
    theirs = Nodes(url_of(users.nodes.target.text, CANAL))
    (address, *_) = await users.nodes.addresses()
    assert await theirs.ask_one(address, ("PING",)) == [True]
    assert await users.remove(CANAL.name) == {}
    assert isinstance(await theirs.ask_one(address, ("PING",)), ServerUnavailableError)
    again = await theirs.ask_one(address, ("PING",))
    assert isinstance(again, ServerRefusedError)
    assert "WRONGPASS" in str(again)
    assert await users.remove(CANAL.name) == {}
    await theirs.aclose()


async def test_a_worker_whose_user_a_node_forgot_waits_and_goes_on(
    server: Server, users: Users, tmp_path: Path
) -> None:
    await users.ensure(CANAL)
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, url_of(server.url, CANAL)) as workers:
            worker = workers.start(canal.contract(retry=QUICK))
            await canal.publish(*({"do": "return"} for _ in range(10)))
            await canal.settled(events=10)
            await users.remove(CANAL.name)
            await canal.publish(*({"do": "return"} for _ in range(10)))
            await asyncio.to_thread(workers.wait, lambda: "WRONGPASS" in worker.log(), "its refusal")
            await users.ensure(CANAL)
            assert (await canal.settled(events=20)).done == 20
            assert worker.exit_code is None


async def test_workers_change_places_while_the_password_does_and_no_event_is_missed(
    server: Server, users: Users, tmp_path: Path
) -> None:
    both = replace(CANAL, passwords=("second-password", "first-password"))
    new = replace(CANAL, passwords=("second-password",))
    await users.ensure(CANAL)
    async with desk(server, partitions=2) as canal:
        with (
            workers_in(tmp_path, url_of(server.url, CANAL)) as before,
            workers_in(tmp_path, url_of(server.url, new)) as after,
        ):
            old = before.start(canal.contract(retry=QUICK))
            for number, user in enumerate((CANAL, both, both, new)):
                await users.ensure(user)
                await canal.publish(*({"do": "return"} for _ in range(20)))
                if number == 1:
                    after.start(canal.contract(retry=QUICK))
                if number == 2:
                    old.terminate()
                    assert await asyncio.to_thread(old.wait_ended) == 0
            assert (await canal.settled(events=80)).done == 80
            assert not any("WRONGPASS" in worker.log() for worker in (old, *after.started))


async def test_the_operators_rights_of_the_guide_are_enough_to_make_users(users: Users) -> None:
    addresses = await users.nodes.addresses()
    cluster = [*ON_CLUSTER, "+cluster|nodes"] if users.nodes.target.is_cluster else []
    await users.nodes.ask(("ACL", "SETUSER", "headgate-operator", "reset", *rights("operator"), *cluster))
    parts = urlsplit(users.nodes.target.text)
    theirs = urlunsplit(parts._replace(netloc=f"headgate-operator:SECRET@{parts.netloc}"))
    try:
        async with users_at(theirs) as limited:
            assert await limited.ensure(CANAL) == (len(addresses), {})
            answers = await limited.nodes.ask(("ACL", "USERS"))
            assert all(CANAL.name.encode() in answer[0] for answer in answers.values())
            assert await limited.remove(CANAL.name) == {}
    finally:
        await users.remove("headgate-operator")


async def test_a_server_that_gives_no_right_to_make_users_says_so() -> None:
    with single() as node:
        node.call("ACL", "SETUSER", "operator", "on", ">secret", "allkeys", "+@all", "-@admin")
        async with users_at(f"redis://operator:secret@127.0.0.1:{node.port}") as users:
            with pytest.raises(UsersForbiddenError, match=r"acl\|getuser"):
                await users.ensure(CANAL)
            with pytest.raises(UsersForbiddenError, match=r"acl\|deluser"):
                await users.remove(CANAL.name)
            node.call("ACL", "SETUSER", "operator", "+acl|getuser")
            with pytest.raises(UsersForbiddenError, match=r"acl\|setuser"):
                await users.ensure(CANAL)
    with single(["--rename-command", "ACL", ""]) as node:
        async with users_at(node.url) as users:
            with pytest.raises(UsersForbiddenError, match="unknown command"):
                await users.ensure(CANAL)


async def test_replicas_behind_sentinels_know_the_user_and_so_does_one_that_restarts() -> None:
    with sentinels(replicas=2) as fleet:
        async with users_at(fleet.url) as users:
            assert await users.ensure(CANAL) == (3, {})
            replica = fleet.nodes[2]
            replica.kill()
            told, silent = await users.ensure(CANAL)
            assert told == 0
            assert set(silent) <= {("127.0.0.1", replica.port)}
            replica.revive()

            async def told_again() -> bool:
                return (await users.ensure(CANAL))[0] == 1

            await eventually(told_again, "the replica is told again")
            assert CANAL.name in replica.call("ACL", "USERS")


async def test_every_node_of_a_cluster_knows_the_user_replicas_too() -> None:
    with cluster_with_replicas() as fleet:
        async with users_at(fleet.url) as users:
            assert await users.ensure(CANAL) == (6, {})
            assert all(CANAL.name in node.call("ACL", "USERS") for node in fleet.nodes)
            assert await users.remove(CANAL.name) == {}
            assert not any(CANAL.name in node.call("ACL", "USERS") for node in fleet.nodes)
            fleet.nodes[0].kill()
            told, silent = await users.ensure(CANAL)
            assert told == 5
            assert set(silent) <= {("127.0.0.1", fleet.nodes[0].port)}


async def test_nobody_who_answers_is_an_error() -> None:
    for url in ("redis+cluster://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/mymaster"):
        async with users_at(url) as users:
            with pytest.raises(StreamsError):
                await users.ensure(CANAL)
    async with users_at("redis://127.0.0.1:1") as users:
        told, silent = await users.ensure(CANAL)
        assert (told, list(silent)) == (0, [("127.0.0.1", 1)])
        assert "127.0.0.1:1" in str(silent["127.0.0.1", 1])
