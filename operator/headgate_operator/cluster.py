"""The API server as plain dictionaries: the few verbs the operator uses, and nothing of their models.

Writes of children go by server-side apply under one field manager. The client's typed models cost half as much memory
again and know no FanoutPipeline.
"""

from __future__ import annotations

import math
import os
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import msgspec
from kubernetes.aio import client, config

from headgate_operator.transport import Transport
from headgate_operator.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from headgate_operator.manifests.names import Manifest

FIELD_MANAGER = "headgate"
REQUEST_SECONDS = 10.0
CALLS_AT_ONCE = 16
"""More would only wait in the API server instead of here, and hold up others there."""
PAGE_ITEMS = 250
SILENT_SECONDS = 150.0
_SERVICE_HOST = "KUBERNETES_SERVICE_HOST"

_RESOURCES = {
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "Deployment"): "deployments",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "horizontalpodautoscalers",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("events.k8s.io/v1", "Event"): "events",
    ("headgate.dev/v1alpha1", "FanoutPipeline"): "fanoutpipelines",
    ("keda.sh/v1alpha1", "ScaledObject"): "scaledobjects",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
}

on_answer: ContextVar[Callable[[float], None]] = ContextVar("on_answer", default=lambda _: None)
"""Called with the monotonic time when a call in this context begins and when it is answered, whatever the answer says:
who waits knows that it gets on. While a call waits for its turn nobody is to blame: then the time is infinite."""


class ClusterError(Exception):
    """The API server refused or could not be reached; `status` is its HTTP status, 0 when there was none."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFoundError(ClusterError):
    """The object is not there."""


class ConflictError(ClusterError):
    """The object is there already, or is not as it was read."""


class Cluster:
    """One API server. Every method raises ClusterError, and gives up after REQUEST_SECONDS.

    `permit` is asked before each write, and may raise to forbid it.
    """

    def __init__(self, configuration: client.Configuration) -> None:
        self.configuration = configuration
        self.permit: Callable[[], None] = lambda: None
        self._turnstile = Turnstile(CALLS_AT_ONCE)
        self._transport = Transport(configuration)

    @classmethod
    async def connect(cls) -> Self:
        """The cluster of $KUBECONFIG, else the one this pod runs in, else that of ~/.kube/config."""
        configuration = client.Configuration()
        # Read now: the client's own default is what the variable was when it was imported.
        files = os.environ.get("KUBECONFIG") or None
        try:
            if files is None and os.environ.get(_SERVICE_HOST):
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(config_file=files, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise ClusterError(
                0, "NoCluster", f"KUBECONFIG: {files or 'not set'}: no cluster to work with: {error}"
            ) from error
        return cls(configuration)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    def beside(self) -> Self:
        """The same API server by connections of their own, for another thread; calls here do not hold it up."""
        return type(self)(self.configuration)

    async def token(self) -> str | None:
        """The bearer token in force, read anew when it is about to expire; None where certificates do the work."""
        found: str | None = await self.configuration.get_api_key_with_prefix("BearerToken")
        return found.split(" ", 1)[-1].strip() if found else None

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest:
        """One object; raises NotFoundError."""
        return await self._call("GET", path(api_version, kind, namespace, name))

    async def list(
        self, api_version: str, kind: str, namespace: str, labels: Mapping[str, str]
    ) -> list[Manifest]:
        """The objects that carry all these labels."""
        chosen = ",".join(f"{key}={value}" for key, value in labels.items())
        found = await self._call("GET", path(api_version, kind, namespace), {"labelSelector": chosen})
        items: list[Manifest] = found.get("items") or []
        return items

    async def pages(
        self, api_version: str, kind: str, label: str, namespace: str = ""
    ) -> AsyncIterator[Manifest]:
        """The objects that carry a label, of one namespace or of all, as lists of PAGE_ITEMS at most."""
        query = {"labelSelector": label, "limit": str(PAGE_ITEMS)}
        more = "first"
        while more:
            page = await self._call("GET", path(api_version, kind, namespace), query)
            yield page
            more = page["metadata"].get("continue", "")
            query["continue"] = more

    async def events(
        self, api_version: str, kind: str, label: str, namespace: str = "", version: str = ""
    ) -> AsyncIterator[Manifest]:
        """What happens to such objects from a version on, as watch events, bookmarks included.

        Ends when the API server ends it, which it does every few minutes. Raises ClusterError too when it says nothing
        for longer than it may: it sends a bookmark a minute.
        """
        where = path(api_version, kind, namespace)
        query = {"labelSelector": label, "watch": "true", "allowWatchBookmarks": "true"}
        query["resourceVersion"] = version
        try:
            async for status, line in self._transport.lines(where, query, silent_seconds=SILENT_SECONDS):
                if status >= 400:
                    raise _refusal(status, f"watch {where}", line)
                event: Manifest = msgspec.json.decode(line)
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(0, "Unreachable", f"watch {where}: {error!r}") from error

    async def apply(
        self, manifest: Manifest, *, field_manager: str = FIELD_MANAGER, dry_run: bool = False
    ) -> Manifest:
        """Server-side apply: takes the fields named over from whoever holds them; returns the object as it is now.

        `dry_run`: as it would be; nothing is changed.
        """
        metadata = manifest["metadata"]
        return await self._call(
            "PATCH",
            path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"]),
            {"fieldManager": field_manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {}),
            manifest,
            "application/apply-patch+yaml",
        )

    async def patch(
        self,
        api_version: str,
        kind: str,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        subresource: str = "",
        field_manager: str = FIELD_MANAGER,
        dry_run: bool = False,
    ) -> Manifest:
        """Merge patch: null removes, a list replaces; returns the object as it is now, or would be by a `dry_run`.

        Raises NotFoundError.
        """
        return await self._call(
            "PATCH",
            path(api_version, kind, namespace, name, subresource),
            {"fieldManager": field_manager} | ({"dryRun": "All"} if dry_run else {}),
            change,
            "application/merge-patch+json",
        )

    async def create(self, manifest: Manifest) -> Manifest:
        """A new object; raises ConflictError when there is one of that name."""
        where = path(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["namespace"])
        return await self._call("POST", where, {"fieldManager": FIELD_MANAGER}, manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """The object as it was read and then changed; raises ConflictError when somebody else was faster."""
        metadata = manifest["metadata"]
        where = path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])
        return await self._call("PUT", where, {"fieldManager": FIELD_MANAGER}, manifest)

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, *, uid: str) -> None:
        """Deletes this very object and, after it, what it owns; one that is gone already is no error."""
        where = path(api_version, kind, namespace, name)
        change = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", where, {}, change)
        except (NotFoundError, ConflictError):
            return

    async def serves(self, api_version: str, resource: str) -> bool:
        """Whether the API server knows a resource, such as `fanoutpipelines` of `headgate.dev/v1alpha1`."""
        try:
            found = await self._call("GET", f"/apis/{api_version}")
        except NotFoundError:
            return False
        return any(item["name"] == resource for item in found.get("resources", ()))

    async def _call(
        self,
        method: str,
        resource_path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        try:
            on_answer.get()(math.inf)
            async with self._turnstile.turn():
                on_answer.get()(time.monotonic())
                if method != "GET":
                    self.permit()
                status, text = await self._transport.request(
                    method,
                    resource_path,
                    query or {},
                    body,
                    content_type=content_type,
                    seconds=REQUEST_SECONDS,
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(0, "Unreachable", f"{method} {resource_path}: {error!r}") from error
        on_answer.get()(time.monotonic())
        if status >= 400:
            raise _refusal(status, f"{method} {resource_path}", text)
        answer: Manifest = msgspec.json.decode(text)
        return answer


def path(api_version: str, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """Where the API server keeps an object, the collection when no name is given, that of all when no namespace is."""
    root = "/api" if "/" not in api_version else "/apis"
    scope = ("namespaces", namespace) if namespace else ()
    parts = [root, api_version, *scope, _RESOURCES[api_version, kind], name, subresource]
    return "/".join(part for part in parts if part)


def _refusal(status: int, call: str, text: bytes) -> ClusterError:
    try:
        answer = msgspec.json.decode(text)
    except ValueError:
        answer = {"message": text[:500].decode(errors="replace")}
    kind = {404: NotFoundError, 409: ConflictError}.get(status, ClusterError)
    return kind(status, answer.get("reason") or str(status), f"{call}: {answer.get('message') or status}")
