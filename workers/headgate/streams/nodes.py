"""Every node of a server, one by one: for what a master does not pass on to its replicas, such as users."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from headgate.streams.clients import client_options, permitted, sentinel
from headgate.streams.errors import ServerUnavailableError, StreamsError
from headgate.streams.refusals import broken, meaning
from headgate.streams.url import read_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Address = tuple[str, int]
Command = tuple[str, ...]

_AT_ONCE = 4
"""Connections to a node; whoever asks more at once waits."""
_GONE = {"noaddr", "handshake", "fail"}
"""Marks of nodes that no client can be sent to, by the cluster's own judgement."""


class Nodes:
    """A few connections to each node of the server at `url`, masters and replicas; raises ValueError for no URL.

    `permit` is asked right before each request is sent, and may raise to forbid it.
    """

    def __init__(self, url: str, permit: Callable[[], None] | None = None) -> None:
        self.target = read_url(url)
        self._permit = permit
        self._clients: dict[Address, redis.Redis] = {}
        self._turns: defaultdict[Address, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_AT_ONCE)
        )
        self._sentinel = sentinel(self.target) if self.target.service is not None else None

    async def ask(self, *commands: Command) -> dict[Address, list[Any] | StreamsError]:
        """Sends the commands to every node, side by side; gives each node's replies, raw, or why there are none.

        A reply that is an error stands in the replies, as it means to us. Raises ServerUnavailableError when nobody
        says which nodes there are.
        """
        addresses = await self.addresses()
        answers = await asyncio.gather(*(self.ask_one(address, *commands) for address in addresses))
        return dict(zip(addresses, answers, strict=True))

    async def ask_one(self, address: Address, *commands: Command) -> list[Any] | StreamsError:
        """Sends the commands to one node, in one round trip."""
        pipeline = self._client(address).pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            async with self._turns[address]:
                replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return self._meant(error, address)
        return [self._meant(reply, address) if isinstance(reply, RedisError) else reply for reply in replies]

    async def addresses(self) -> list[Address]:
        """Where the nodes are now, but for those that the server itself takes for gone.

        Raises ServerUnavailableError when nobody knows.
        """
        if self.target.is_cluster:
            return await self._of_cluster()
        if self._sentinel is None or self.target.service is None:
            return list(self.target.hosts) or [("localhost", 0)]
        try:
            master = await self._sentinel.discover_master(self.target.service)
            replicas = await self._sentinel.discover_slaves(self.target.service)
        except (RedisError, OSError) as error:
            raise broken(error, self.target) from error
        return [(str(host), int(port)) for host, port in dict.fromkeys((master, *replicas))]

    async def aclose(self) -> None:
        """Closes every connection."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()
        if self._sentinel is not None:
            for client in self._sentinel.sentinels:
                await client.aclose()

    async def _of_cluster(self) -> list[Address]:
        """CLUSTER NODES and not SLOTS: a master without slots may have some in a moment."""
        failure: StreamsError | None = None
        for seed in dict.fromkeys((*self.target.hosts, *self._clients)):
            answer = await self.ask_one(seed, ("CLUSTER", "NODES"))
            reply = answer if isinstance(answer, StreamsError) else answer[0]
            if not isinstance(reply, StreamsError):
                return _listed(bytes(reply).decode(), seed, by_name=self.target.is_tls)
            failure = reply
        if isinstance(failure, ServerUnavailableError):
            raise failure
        raise ServerUnavailableError(f"Redis server {self.target}: which nodes it has is not told: {failure}")

    def _client(self, address: Address) -> redis.Redis:
        if address not in self._clients:
            options = client_options(self.target)
            if self.target.path is not None:
                options["unix_socket_path"] = self.target.path
            else:
                options |= {"host": address[0], "port": address[1]}
            self._clients[address] = permitted(redis.Redis(**options), self._permit)
        return self._clients[address]

    def _meant(self, error: BaseException, address: Address) -> StreamsError:
        if isinstance(error, ResponseError) or getattr(error, "status_code", None):
            word = getattr(error, "status_code", None)
            return meaning(f"{word} {error}" if word else str(error), f"{address[0]}:{address[1]}")
        return broken(error, self.target)


def _listed(text: str, seed: Address, *, by_name: bool) -> list[Address]:
    """The nodes of a CLUSTER NODES reply; by the names they announce where certificates are to match.

    A line is: id ip:port@busport[,hostname[,...]] flags ...; a node that has met nobody knows no address of its own.
    """
    found: list[Address] = []
    for line in text.splitlines():
        _, where, flags, *_ = line.split(" ")
        if _GONE & set(flags.split(",")):
            continue
        at, *names = where.split(",")
        host, _, port = at.partition("@")[0].rpartition(":")
        name = names[0] if names and by_name else ""
        found.append((name or host or seed[0], int(port)))
    return found


def unanswered(answers: Mapping[Address, Sequence[Any] | StreamsError]) -> dict[Address, StreamsError]:
    """The nodes that did not answer, or refused one of the commands, and the first thing that was wrong."""
    found: dict[Address, StreamsError] = {}
    for address, answer in answers.items():
        replies = [answer] if isinstance(answer, StreamsError) else answer
        wrong = next((reply for reply in replies if isinstance(reply, StreamsError)), None)
        if wrong is not None:
            found[address] = wrong
    return found
