"""Where the URL of a pipeline's server stands: in the Secret that its spec names, or with the operator.

Workers on the operator's own server never get the operator's login: each pipeline has a user of its own there, whose
password its Secret keeps.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import structlog

from headgate.streams.users import user_name
from headgate_operator.cluster import NotFoundError
from headgate_operator.logins import Login, following, fresh_password
from headgate_operator.manifests import RedisSource, selector
from headgate_operator.manifests.deployment import REDIS_FINGERPRINT
from headgate_operator.manifests.names import secret_name
from headgate_operator.problem import Problem
from headgate_operator.substrates.ownership import is_leftover

if TYPE_CHECKING:
    from headgate_operator.api import SecretKeyRef
    from headgate_operator.cluster import Cluster
    from headgate_operator.manifests import Manifest
    from headgate_operator.pipeline import Pipeline
    from headgate_operator.users import UserMaker

_ENDED = ("Succeeded", "Failed")

log = structlog.get_logger()


class Credentials:
    """Logins of pipelines; `default_url` is of the operator's own server, where `users` makes theirs, if any does."""

    def __init__(self, cluster: Cluster, default_url: str | None, users: UserMaker | None = None) -> None:
        self._cluster = cluster
        self._default_url = default_url
        self._users = users
        self._rotating: set[tuple[str, str]] = set()

    def rotating(self, namespace: str, name: str) -> bool:
        """Whether a password of this pipeline is being replaced, so that another pass is due soon."""
        return (namespace, name) in self._rotating

    async def dismiss(self, pipeline: Pipeline) -> None:
        """Removes the pipeline's user, if there are users; raises Problem when it is left."""
        if self._users is not None and pipeline.spec.redis is None:
            await self._users.remove(pipeline.namespace, pipeline.name)

    def forget(self, namespace: str, name: str) -> None:
        """Drops what is remembered of a pipeline that is gone."""
        self._rotating.discard((namespace, name))
        if self._users is not None:
            self._users.forget(namespace, name)

    async def of_operator(self, pipeline: Pipeline) -> RedisSource:
        """Where the operator finds the pipeline's server, and by which login.

        Raises Problem when the URL stands nowhere, ClusterError when the API server refuses.
        """
        return await redis_source(self._cluster, pipeline, self._default_url)

    async def of_workers(self, pipeline: Pipeline) -> RedisSource:
        """The same for the workers. On the operator's own server their user is made first, as far as nodes answer.

        Raises Problem also when the server takes no users.
        """
        source = await self.of_operator(pipeline)
        if self._users is None or not source.owned:
            return source
        key = (pipeline.namespace, pipeline.name)
        held = await self._held(pipeline)
        login = await self._next(pipeline, held, source.url)
        told = await self._users.ensure(pipeline, login)
        if held is not None and held.password != login.password and not told:
            # Workers with the new password would be strangers to a node that has not heard of it: next time.
            log.warning("password not replaced yet: not every node answers", pipeline=str(pipeline))
            await self._users.ensure(pipeline, held)
            self._rotating.add(key)
            return source.of(held)
        if held is not None and held != login:
            log.info(
                "password replaced" if login.previous else "old password removed", pipeline=str(pipeline)
            )
        if login.previous or login.rotation != pipeline.rotation:
            self._rotating.add(key)
        else:
            self._rotating.discard(key)
        return source.of(login)

    async def _next(self, pipeline: Pipeline, held: Login | None, server: str) -> Login:
        if held is None:
            name = user_name(pipeline.namespace, pipeline.name)
            return Login(name, fresh_password(), rotation=pipeline.rotation)
        moved = bool(held.previous) and await self._have_moved(pipeline, held, server)
        return following(held, pipeline.rotation, moved=moved, fresh=fresh_password())

    async def _held(self, pipeline: Pipeline) -> Login | None:
        """What the pipeline's Secret keeps; None when there is none yet, or one of a pipeline that is no more."""
        try:
            found = await self._cluster.get("v1", "Secret", pipeline.namespace, secret_name(pipeline.name))
        except NotFoundError:
            return None
        if is_leftover(pipeline, found):
            return None
        return Login.read(found, user_name(pipeline.namespace, pipeline.name))

    async def _have_moved(self, pipeline: Pipeline, held: Login, server: str) -> bool:
        """Whether every pod was made for the password in use; one that ends may still log in with the one before."""
        wanted = RedisSource.default(pipeline, server).of(held).fingerprint(pipeline.uid)
        pods = await self._cluster.list("v1", "Pod", pipeline.namespace, selector(pipeline.name))
        return all(
            pod["metadata"].get("annotations", {}).get(REDIS_FINGERPRINT) == wanted
            for pod in pods
            if pod.get("status", {}).get("phase") not in _ENDED
        )


async def redis_source(cluster: Cluster, pipeline: Pipeline, default_url: str | None) -> RedisSource:
    """The Secret, key and URL of a pipeline's server; `default_url` is of the operator's own.

    Raises Problem when the URL stands nowhere, ClusterError when the API server refuses.
    """
    spec = pipeline.spec.redis
    if spec is None:
        if default_url is None:
            raise Problem(
                "NoRedis",
                "spec.redis: not set, and the operator has no server of its own: set spec.redis.secretRef, or"
                " HEADGATE_REDIS_URL of the operator",
            )
        return RedisSource.default(pipeline, default_url)
    name, key = spec.secret_ref.name, spec.secret_ref.key
    try:
        secret = await cluster.get("v1", "Secret", pipeline.namespace, name)
    except NotFoundError as error:
        raise Problem(
            "SecretNotFound",
            f"spec.redis.secretRef.name: {name!r}: no such Secret in namespace {pipeline.namespace}: create it"
            f" with the server's URL under key {key!r}",
        ) from error
    return RedisSource(secret=name, key=key, url=url_in(secret, spec.secret_ref), owned=False)


def url_in(secret: Manifest, ref: SecretKeyRef) -> str:
    """The URL that stands in a Secret; raises Problem when it has no such key."""
    try:
        return base64.b64decode((secret.get("data") or {})[ref.key], validate=True).decode().strip()
    except (KeyError, ValueError) as error:
        raise Problem(
            "SecretKeyNotFound",
            f"spec.redis.secretRef.key: {ref.key!r}: Secret {ref.name} has no such key: put the server's URL there",
        ) from error
