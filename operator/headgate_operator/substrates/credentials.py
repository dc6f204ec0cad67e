"""Where the URL of a pipeline's server stands: in the Secret that its spec names, or with the operator."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from headgate_operator.cluster import NotFoundError
from headgate_operator.manifests import RedisSource
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from headgate_operator.cluster import Cluster
    from headgate_operator.pipeline import Pipeline


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
    try:
        url = base64.b64decode(secret.get("data", {})[key], validate=True).decode().strip()
    except (KeyError, ValueError) as error:
        raise Problem(
            "SecretKeyNotFound",
            f"spec.redis.secretRef.key: {key!r}: Secret {name} has no such key: put the server's URL there",
        ) from error
    return RedisSource(secret=name, key=key, url=url, owned=False)
