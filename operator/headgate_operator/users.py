"""The users of pipelines on the operator's own server: made, looked after, and removed with their pipelines.

A node that restarts without an aclfile has forgotten its users, and a replica never heard of them. So every node is
asked every few seconds whether it knows all names, and told again what it does not; a pass compares their rights.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, Protocol
from weakref import WeakValueDictionary

import structlog

from headgate.streams.errors import StreamsError
from headgate.streams.nodes import Nodes, unanswered
from headgate.streams.users import PipelineUser, Users, UsersForbiddenError, user_name
from headgate_operator.leader import LeadershipLostError
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.streams.nodes import Address
    from headgate_operator.logins import Login
    from headgate_operator.pipeline import Pipeline

GUARD_SECONDS = 5.0
"""A node that has forgotten a user is told again within this."""
ENSURE_SECONDS = 15.0
REMOVE_SECONDS = 10.0

log = structlog.get_logger()


class UserMaker(Protocol):
    """Makes the users of pipelines."""

    async def ensure(self, pipeline: Pipeline, login: Login) -> bool:
        """Makes the user what it should be; says whether every node was told. Raises Problem when it may not be."""
        ...

    async def remove(self, namespace: str, name: str) -> None:
        """Removes a pipeline's user; raises Problem when that is not possible."""
        ...

    def forget(self, namespace: str, name: str) -> None:
        """Looks after this pipeline's user no more."""
        ...


class Rehearsed:
    """Makes none, and says that all went well."""

    async def ensure(self, pipeline: Pipeline, login: Login) -> bool:  # noqa: ARG002
        """See UserMaker."""
        return True

    async def remove(self, namespace: str, name: str) -> None:
        """See UserMaker."""

    def forget(self, namespace: str, name: str) -> None:
        """See UserMaker."""


class UserKeeper:
    """All users of pipelines on the server at `url`. `permit` is asked before each request, may raise."""

    def __init__(self, url: str) -> None:
        self.permit: Callable[[], None] = lambda: None
        self._url = url
        self._users: Users | None = None
        self._wanted: dict[str, PipelineUser] = {}
        # One at a time for each user: what is told last must be what is wanted last.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._silent: frozenset[Address] = frozenset()

    async def ensure(self, pipeline: Pipeline, login: Login) -> bool:
        """See UserMaker. Nodes that are silent are told by `guard` when they answer again."""
        user = PipelineUser(pipeline.namespace, pipeline.name, login.passwords)
        users = self._connected()
        self._wanted[user.name] = user
        try:
            async with asyncio.timeout(ENSURE_SECONDS), self._lock(user.name):
                changed, silent = await users.ensure(user)
        except UsersForbiddenError as error:
            self._wanted.pop(user.name, None)
            raise Problem(
                "UsersRefused",
                f"the Redis server lets the operator make no users: {error}: grant it +acl|setuser +acl|getuser"
                " +acl|deluser +acl|users, or let workers share the operator's login (redis.users=false of the chart)",
            ) from error
        except (StreamsError, TimeoutError) as error:
            log.warning("user not made", pipeline=str(pipeline), error=str(error) or "timed out")
            return False
        if changed:
            log.info("user made", pipeline=str(pipeline), user=user.name, nodes=changed)
        self._tell_of(silent)
        return not silent

    async def remove(self, namespace: str, name: str) -> None:
        """See UserMaker; gives up after REMOVE_SECONDS."""
        user = user_name(namespace, name)
        self.forget(namespace, name)
        try:
            async with asyncio.timeout(REMOVE_SECONDS), self._lock(user):
                silent = await self._connected().remove(user)
        except (StreamsError, TimeoutError) as error:
            why = str(error) or "timed out"
        else:
            why = "; ".join(str(error) for error in silent.values())
        if why:
            raise Problem("UserLeft", f"user {user}: {why}; remove it there with ACL DELUSER {user}")

    def forget(self, namespace: str, name: str) -> None:
        """Looks after this pipeline's user no more."""
        self._wanted.pop(user_name(namespace, name), None)

    async def guard(self) -> NoReturn:
        """Tells nodes again what they have forgotten, until cancelled."""
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            if not self._wanted:
                continue
            try:
                await self.look()
            except (StreamsError, TimeoutError) as error:
                log.warning("users not looked after", error=str(error) or "timed out")
            except LeadershipLostError:
                await asyncio.Event().wait()  # the process ends
            except Exception:
                log.exception("users not looked after")

    async def look(self) -> int:
        """Asks every node for its users' names once; gives how many users had to be made again."""
        users = self._connected()
        answers = await users.nodes.ask(("ACL", "USERS"))
        self._tell_of(unanswered(answers))
        lost: set[str] = set()
        for answer in answers.values():
            if not isinstance(answer, StreamsError) and not isinstance(answer[0], StreamsError):
                lost |= self._wanted.keys() - {name.decode() for name in answer[0]}
        for name in sorted(lost):
            async with self._lock(name):
                if name in self._wanted:  # it may have been removed meanwhile
                    await users.ensure(self._wanted[name])
        if lost:
            log.warning("users made again", users=len(lost), why="a node had forgotten them")
        return len(lost)

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._users is not None:
            await self._users.nodes.aclose()

    def _lock(self, name: str) -> asyncio.Lock:
        """The lock of a user, for as long as somebody holds it or waits for it."""
        return self._locks.setdefault(name, asyncio.Lock())

    def _connected(self) -> Users:
        """Raises Problem when the URL is none."""
        if self._users is None:
            try:
                self._users = Users(Nodes(self._url, lambda: self.permit()))  # noqa: PLW0108  # it may be set later
            except ValueError as error:
                raise Problem("InvalidURL", f"{error}; correct HEADGATE_REDIS_URL of the operator") from error
        return self._users

    def _tell_of(self, silent: Mapping[Address, StreamsError]) -> None:
        """Says once which nodes do not answer."""
        if silent.keys() != self._silent and silent:
            log.warning("nodes do not answer", nodes=[f"{host}:{port}" for host, port in silent])
        self._silent = frozenset(silent)
