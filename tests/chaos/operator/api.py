"""The API server as the harness itself talks to it: directly, past every proxy."""

from __future__ import annotations

import base64
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

Manifest = dict[str, Any]
PIPELINES = "apis/headgate.dev/v1alpha1", "fanoutpipelines"
DEPLOYMENTS = "apis/apps/v1", "deployments"
KINDS = (
    PIPELINES,
    DEPLOYMENTS,
    ("api/v1", "serviceaccounts"),
    ("api/v1", "secrets"),
    ("apis/networking.k8s.io/v1", "networkpolicies"),
    ("apis/autoscaling/v2", "horizontalpodautoscalers"),
)
"""Every kind that an operator makes here."""


class Api:
    """One API server, by its kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.url: str = cluster["server"]
        trust = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
        if data := cluster.get("certificate-authority-data"):
            trust.load_verify_locations(cadata=base64.b64decode(data).decode())
        self.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
            connector=aiohttp.TCPConnector(ssl=trust, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.session.close()

    async def items(self, group: str, resource: str, namespace: str) -> list[Manifest]:
        """All objects of a kind in a namespace."""
        found = await self.call("GET", f"/{group}/namespaces/{namespace}/{resource}")
        items: list[Manifest] = found["items"]
        return items

    async def call(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        missing_ok: bool = False,
    ) -> Manifest:
        """One call; raises RuntimeError when it is refused."""
        async with self.session.request(
            method,
            self.url + path,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type},
        ) as answer:
            text = await answer.text()
            if answer.status == 404 and missing_ok:
                return {}
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:600]}")
            found: Manifest = json.loads(text)
            return found

    async def apply(self, group: str, resource: str, manifest: Manifest) -> Manifest:
        """Server-side apply, as a user's kubectl does."""
        metadata = manifest["metadata"]
        path = f"/{group}/namespaces/{metadata['namespace']}/{resource}/{metadata['name']}"
        query = "?fieldManager=user&force=true"
        return await self.call("PATCH", path + query, manifest, "application/apply-patch+yaml")
