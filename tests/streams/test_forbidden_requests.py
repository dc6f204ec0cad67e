"""A server or its nodes with a `permit`: what that forbids is not sent, on every kind of server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from headgate.streams import PipelineKeys, Server, ensure_groups
from headgate.streams.nodes import Nodes
from headgate.streams.users import PipelineUser, Users
from streams.fleets import sentinels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEYS = PipelineKeys("default", "forbidden", 3)
USER = PipelineUser("default", "forbidden", ("a-password",))


class ForbiddenError(Exception):
    """What the permit here raises."""


class Permit:
    """Given until it is taken."""

    def __init__(self) -> None:
        self.given = True

    def __call__(self) -> None:
        if not self.given:
            raise ForbiddenError


def writes(server: Server) -> list[Callable[[], Awaitable[Any]]]:
    """The ways to have a server change something."""
    return [
        lambda: server.execute("a", "SET", "a", "1"),
        lambda: ensure_groups(server, KEYS, ["work"]),
        lambda: ensure_groups(server, PipelineKeys("default", "single", 1), ["work"]),
    ]


async def keys_of(url: str) -> list[bytes]:
    async with aclosing(Server.connect(url)) as server:
        return sorted([key async for key in server.scan("*")])


async def forbids(url: str) -> None:
    """Does what is allowed, and then tries what is not."""
    permit = Permit()
    async with aclosing(Server.connect(url, permit)) as server:
        await ensure_groups(server, PipelineKeys("default", "allowed", 3), ["work"])
        before = await keys_of(url)
        assert before
        permit.given = False
        for write in writes(server):
            with pytest.raises(ForbiddenError):
                await write()
        assert await keys_of(url) == before


async def test_what_is_forbidden_is_not_sent(server_url: str) -> None:
    await forbids(server_url)


async def test_it_is_not_sent_to_a_master_behind_sentinels_either() -> None:
    with sentinels(replicas=0) as fleet:
        await forbids(fleet.url)


@pytest.mark.parametrize("awaited", ["open_connection", "wait_for"])
async def test_what_is_forbidden_while_a_request_is_on_its_way_out_is_not_sent(
    redis7_url: str, monkeypatch: pytest.MonkeyPatch, awaited: str
) -> None:
    """The client library awaits these two before the bytes go out: there a process may have been held up."""
    permit, done = Permit(), getattr(asyncio, awaited)

    async def held_up(*arguments: Any, **options: Any) -> Any:
        if awaited == "open_connection":
            connected = await done(*arguments, **options)
            permit.given = False
            return connected
        permit.given = False
        return await done(*arguments, **options)

    for write in range(3):
        permit.given = True
        async with aclosing(Server.connect(redis7_url, permit)) as server:
            monkeypatch.setattr(asyncio, awaited, held_up)
            with pytest.raises(ForbiddenError):
                await writes(server)[write]()
            monkeypatch.undo()
    assert await keys_of(redis7_url) == []


async def test_no_node_is_told_of_a_user_or_to_forget_one(server_url: str) -> None:
    permit = Permit()
    async with aclosing(Nodes(server_url)) as nodes, aclosing(Nodes(server_url, permit)) as asking:
        await Users(nodes).ensure(USER)
        try:
            await asking.addresses()
            permit.given = False
            with pytest.raises(ForbiddenError):
                await Users(asking).remove(USER.name)
            changed, _ = await Users(nodes).ensure(USER)
            assert changed == 0
        finally:
            await Users(nodes).remove(USER.name)
