"""A pipeline that is cleaned up is let go, also when its object changes at that very moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate_operator.api import API_VERSION, KIND
from headgate_operator.cluster import ConflictError, NotFoundError
from headgate_operator.removal import FINALIZER, let_go

if TYPE_CHECKING:
    from headgate_operator.cluster import Cluster

FOREIGN = "example.com/another"


async def deleted(api: Cluster, name: str, *finalizers: str) -> dict[str, Any]:
    """A pipeline that waits to go."""
    spec = {"branches": [{"name": "a", "handler": {"http": {"url": "https://hooks.example/"}}}]}
    metadata = {"namespace": "default", "name": name, "finalizers": list(finalizers)}
    made = await api.create({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
    await api.delete(API_VERSION, KIND, "default", name, uid=made["metadata"]["uid"])
    return await api.get(API_VERSION, KIND, "default", name)


async def test_a_pipeline_goes_though_its_object_changed_meanwhile(
    api: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = await deleted(api, "changes-meanwhile", FINALIZER)
    patch, refused = api.patch, []

    async def busy(*place: Any) -> Any:
        """Somebody writes a label just before, twice."""
        if len(refused) < 2:
            await patch(*place[:4], {"metadata": {"labels": {"seen": str(len(refused))}}})
        try:
            return await patch(*place)
        except ConflictError as error:
            refused.append(error)
            raise

    monkeypatch.setattr(api, "patch", busy)
    await let_go(api, manifest)
    assert len(refused) == 2
    with pytest.raises(NotFoundError):
        await api.get(API_VERSION, KIND, "default", "changes-meanwhile")
    await let_go(api, manifest)  # one that is gone already is no error


async def test_anothers_finaliser_is_left(api: Cluster) -> None:
    manifest = await deleted(api, "held-by-another", FINALIZER, FOREIGN)
    await let_go(api, manifest)
    live = await api.get(API_VERSION, KIND, "default", "held-by-another")
    assert live["metadata"]["finalizers"] == [FOREIGN]
    await api.patch(API_VERSION, KIND, "default", "held-by-another", {"metadata": {"finalizers": []}})
