"""The wiring of kopf: what it watches and whom it tells, and nothing else.

kopf watches, retries watches, holds the finaliser and runs one daemon a pipeline. It stores nothing in the objects: the
keeper compares what is wanted with what is there, so there is no last state to remember.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import kopf

from headgate_operator.api import GROUP, PLURAL, VERSION
from headgate_operator.leader import LeadershipLostError
from headgate_operator.removal import FINALIZER, let_go
from headgate_operator.watcher_session import WatcherSession, watcher_session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate_operator.cluster import Cluster
    from headgate_operator.keeper import Keeper


class _NothingStored(kopf.DiffBaseStorage):
    """kopf would annotate each object with its last spec, to tell what changed; nobody here asks."""

    def build(
        self,
        *,
        body: kopf.Body,  # noqa: ARG002
        extra_fields: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> kopf.BodyEssence:
        # Of a copy of the whole object at each event only the difference to the stored one would be used.
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass


class _Attempts(kopf.AnnotationsProgressStorage):
    """Of `delete`, the one handler whose attempts kopf notes in the object: only while it is to be tried again.

    When it is done the object may be gone, and one of the same name there: kopf's note would be written to that one.
    """

    def store(self, *, key: Any, record: kopf.ProgressRecord, body: kopf.Body, patch: kopf.Patch) -> None:
        if not record.get("success"):
            super().store(key=key, record=record, body=body, patch=patch)

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """It goes with the object."""


def settings() -> kopf.OperatorSettings:
    """Settings of kopf itself."""
    chosen = kopf.OperatorSettings()
    chosen.persistence.finalizer = FINALIZER
    chosen.persistence.diffbase_storage = _NothingStored()
    chosen.persistence.progress_storage = _Attempts(prefix=GROUP)
    chosen.posting.enabled = False  # events are ours, on transitions only
    chosen.peering.standalone = True  # one leads by Lease (leader.py)
    chosen.scanning.disabled = True  # needs no right to watch namespaces and CRDs
    chosen.networking.connect_timeout = 10
    chosen.process.ultimate_exiting_timeout = None  # operator.py ends the process
    return chosen


def registry(keeper: Keeper, cluster: Cluster) -> kopf.OperatorRegistry:
    """The handlers."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> WatcherSession:
        configuration = cluster.configuration
        connection = kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            token=await cluster.token(),
        )
        return watcher_session(connection, cluster.permit)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def pipeline_event(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        keeper.saw_pipeline(type, body)

    # The keeper may be cancelled anywhere; kopf waits this long for it before it lets the object go, and would warn of
    # a daemon that does not end by itself.
    @kopf.daemon(GROUP, VERSION, PLURAL, cancellation_timeout=10, registry=handlers)
    async def keep(body: kopf.Body, **_: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await keeper.keep(body)

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=handlers)
    async def delete(body: kopf.Body, **_: Any) -> None:
        try:
            await keeper.clean_up(body)
            await let_go(cluster, body)
        except LeadershipLostError:
            await (
                asyncio.Event().wait()
            )  # the process ends; kopf would write to the object, or let it go, by itself

    return handlers
