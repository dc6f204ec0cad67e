"""A pipeline's own user on its server: its keys and the commands of its workers, and nothing else.

Users do not replicate, and without an aclfile a node that restarts has forgotten them: every node is asked, and told.
What a user may do in other pipelines of its namespace is what their publishers may: it can add events, it reads none.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from headgate.streams.errors import StreamsError
from headgate.streams.nodes import unanswered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headgate.streams.nodes import Address, Nodes

COMMANDS = (
    *("evalsha", "script|load", "ping", "select", "wait"),
    *("time", "exists", "type", "del", "get", "set", "pexpire"),
    *("hget", "hlen", "hmget", "hset", "hsetnx", "hdel", "hexists", "hgetall", "hincrby", "hkeys"),
    *("lpop", "rpush"),
    *("xack", "xadd", "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread"),
    *("xreadgroup", "xrevrange", "xtrim"),
    *("zadd", "zcard", "zrange", "zrem", "zremrangebyscore", "zscore"),
)
"""What workers, publishers and applications of a pipeline run on its own keys, as docs/guides/servers.md lists it."""
ON_CLUSTER = ("cluster|slots", "command")
"""What they run besides to find their way in a cluster."""
_LANES = ("high", "normal", "low")
_OF_DELIVERY = (*_LANES, "dedupe:*", "values", "relayed", "settings")

_Described = tuple[frozenset[str], ...]
_COMMANDS = 2  # their place in a description


class UsersForbiddenError(StreamsError):
    """The server has no users, or ours may not make any; says which command was refused."""


@dataclass(frozen=True)
class PipelineUser:
    """A user as it should be. `passwords` are all that it may log in with; two while one replaces the other."""

    namespace: str
    pipeline: str
    passwords: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name on the server."""
        return user_name(self.namespace, self.pipeline)

    def rules(self, *, cluster: bool) -> tuple[str, ...]:
        """What ACL SETUSER takes, from nothing to all that it may; passwords go as their SHA-256 only.

        A selector is a set of rights of its own: whoever runs deliver.lua needs every key that it names, but each
        command in it only those that it touches.
        """
        theirs = f"hg:{{{self.namespace}/*:"
        commands = (*COMMANDS, *(ON_CLUSTER if cluster else ()))
        return (
            *("reset", "on", "resetchannels", "-@all"),
            *(f"#{digest(password)}" for password in self.passwords),
            f"~hg:{{{self.namespace}/{self.pipeline}:*",
            *(f"+{command}" for command in commands),
            _selector(["evalsha"], (f"~{theirs}{key}" for key in _OF_DELIVERY)),
            _selector(["exists", "hget", "hmget"], [f"%R~{theirs}settings"]),
            _selector(["hget", "hset"], [f"~{theirs}relayed"]),
            _selector(["exists", "set"], [f"~{theirs}dedupe:*"]),
            _selector(["xadd"], (f"%W~{theirs}{lane}" for lane in _LANES)),
        )


def user_name(namespace: str, pipeline: str) -> str:
    """The name of a pipeline's user; no two pipelines share one, since a namespace has no dot."""
    return f"headgate.{namespace}.{pipeline}"


def digest(password: str) -> str:
    """A password as the server keeps it."""
    return sha256(password.encode()).hexdigest()


class Users:
    """The users of pipelines on one server. Nodes that do not answer are given back, to be told when they do."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._spelled: dict[Address, frozenset[str]] = {}

    async def ensure(self, user: PipelineUser) -> tuple[int, dict[Address, StreamsError]]:
        """Makes the user what it should be on every node; gives how many it changed on, and those that are silent.

        Raises UsersForbiddenError, and ServerUnavailableError when nobody says which nodes there are.
        """
        answers = await self.nodes.ask(_look(user.name))
        _raise_if_forbidden(answers)
        silent = unanswered(answers)
        changed = 0
        for address, answer in answers.items():
            if isinstance(answer, StreamsError) or address in silent:
                continue
            before = _found(answer[0])
            if self._as_wanted(address, user, before):
                continue
            try:
                changed += before != await self._tell(address, user)
            except UsersForbiddenError:
                raise
            except StreamsError as error:
                silent[address] = error
        return changed, silent

    async def remove(self, name: str) -> dict[Address, StreamsError]:
        """Removes a user from every node and ends its connections; one that is not there is no error.

        Raises as `ensure`.
        """
        answers = await self.nodes.ask(("ACL", "DELUSER", name))
        _raise_if_forbidden(answers)
        return unanswered(answers)

    async def _tell(self, address: Address, user: PipelineUser) -> _Described | None:
        """Makes the user on one node, and learns how that one spells the commands of such users."""
        rules = user.rules(cluster=self.nodes.target.is_cluster)
        answer = await self.nodes.ask_one(address, ("ACL", "SETUSER", user.name, *rules), _look(user.name))
        _raise_if_forbidden({address: answer})
        for wrong in unanswered({address: answer}).values():
            raise wrong
        after = None if isinstance(answer, StreamsError) else _found(answer[1])
        if after is not None:
            self._spelled[address] = after[_COMMANDS]
        return after

    def _as_wanted(self, address: Address, user: PipelineUser, found: _Described | None) -> bool:
        """Redis 7.0 tells of commands by categories, `+@hash -hscan`: the same commands in the same words each time."""
        if found is None:
            return False
        wanted = list(_described(user.rules(cluster=self.nodes.target.is_cluster)))
        if found[_COMMANDS] == self._spelled.get(address):
            wanted[_COMMANDS] = found[_COMMANDS]
        return found == tuple(wanted)


def _look(name: str) -> tuple[str, ...]:
    return "ACL", "GETUSER", name


def _selector(commands: Iterable[str], keys: Iterable[str]) -> str:
    return f"({' '.join((*keys, 'resetchannels', '-@all', *(f'+{command}' for command in commands)))})"


def _raise_if_forbidden(answers: Mapping[Address, Sequence[Any] | StreamsError]) -> None:
    for (host, port), wrong in unanswered(answers).items():
        if "NOPERM" in str(wrong) or "unknown command" in str(wrong) or "unknown subcommand" in str(wrong):
            raise UsersForbiddenError(f"{host}:{port}: {wrong}")


def _described(rules: Iterable[str]) -> _Described:
    """Rules as sets: flags, passwords, commands, keys, then each selector's commands and keys.

    The server gives commands in an order of its own, and it depends on the version which.
    """
    plain = [rule for rule in rules if not rule.startswith("(")]
    selectors = {frozenset(rule.strip("()").split()) - {"resetchannels"} for rule in rules if rule[0] == "("}
    return (
        frozenset({"on"}),
        frozenset(rule[1:] for rule in plain if rule[0] == "#"),
        frozenset(rule for rule in plain if rule[0] in "+-"),
        frozenset(rule for rule in plain if rule[0] in "~%&"),
        *sorted(selectors, key=sorted),
    )


def _found(reply: list[Any] | None) -> _Described | None:
    """An ACL GETUSER reply in the same form; None when there is no such user."""
    if reply is None:
        return None
    has = _members(reply)
    selectors = {_words(inner, "commands") | _words(inner, "keys", "channels") for inner in has["selectors"]}
    return (
        frozenset(flag.decode() for flag in has["flags"]) - {"sanitize-payload"},
        frozenset(password.decode() for password in has["passwords"]),
        _words(reply, "commands"),
        _words(reply, "keys", "channels"),
        *sorted(selectors, key=sorted),
    )


def _members(reply: list[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _words(reply: list[Any], *names: str) -> frozenset[str]:
    has = _members(reply)
    return frozenset(word for name in names for word in has[name].decode().split())
