"""Reading the Secrets that pipelines name again and again: the operator may read each by name, and watch none.

One call for each different Secret, spread over a round; pipelines on the operator's own server name none and cost none.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NoReturn

import structlog

from headgate_operator.cluster import ClusterError, NotFoundError
from headgate_operator.problem import Problem
from headgate_operator.substrates.credentials import url_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate_operator.api import SecretKeyRef
    from headgate_operator.cluster import Cluster
    from headgate_operator.manifests import Manifest
    from headgate_operator.pipeline import Pipeline

log = structlog.get_logger()


class SecretRounds:
    """Goes round the Secrets of `pipelines` in `seconds`, and tells `changed` of those whose URL is another now.

    `url_of` gives the URL by which a pipeline's server was reached last, None when it never was.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        pipelines: Callable[[], Iterable[Pipeline]],
        url_of: Callable[[Pipeline], str | None],
        changed: Callable[[Pipeline], None],
        seconds: float,
    ) -> None:
        self._cluster = cluster
        self._pipelines = pipelines
        self._url_of = url_of
        self._changed = changed
        self._seconds = seconds

    async def run(self) -> NoReturn:
        """Goes round until cancelled."""
        while True:
            secrets = self._named()
            for (namespace, name), naming in secrets.items():
                # Before each: a burst of a thousand calls would hold others up.
                await asyncio.sleep(self._seconds / len(secrets))
                try:
                    await self._look(namespace, name, naming)
                except ClusterError as error:
                    log.warning("Secret not read", namespace=namespace, secret=name, error=str(error))
                except Exception:
                    log.exception("Secret not read", namespace=namespace, secret=name)
            if not secrets:
                await asyncio.sleep(self._seconds)

    def _named(self) -> dict[tuple[str, str], list[tuple[Pipeline, SecretKeyRef]]]:
        named: dict[tuple[str, str], list[tuple[Pipeline, SecretKeyRef]]] = {}
        for pipeline in self._pipelines():
            if (redis := pipeline.spec.redis) is not None:
                where = (pipeline.namespace, redis.secret_ref.name)
                named.setdefault(where, []).append((pipeline, redis.secret_ref))
        return named

    async def _look(self, namespace: str, name: str, naming: Iterable[tuple[Pipeline, SecretKeyRef]]) -> None:
        secret: Manifest = {}
        with contextlib.suppress(NotFoundError):
            secret = await self._cluster.get("v1", "Secret", namespace, name)
        for pipeline, ref in naming:
            if _url(secret, ref) != self._url_of(pipeline):
                self._changed(pipeline)


def _url(secret: Manifest, ref: SecretKeyRef) -> str | None:
    """The URL that stands in a Secret; None when there is none, which is for a pass to tell."""
    try:
        return url_in(secret, ref)
    except Problem:
        return None
