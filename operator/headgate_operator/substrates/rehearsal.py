"""An API server that is told everything and changes nothing: what a pass would write, in sentences.

Reads are real. An apply or a patch is the API server's own dry run, with its defaults and admission, so that what comes
back is what would be; where it differs from what is there, the fields at fault are named. Values are told only where
they cannot be a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_operator.cluster import FIELD_MANAGER, Cluster, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate_operator.manifests import Manifest

_THE_SERVERS_OWN = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")
_TOLD = ("image", "replicas")
"""Fields whose values are told; those of others may be settings of a handler's, or a Secret's."""


class Rehearsal(Cluster):
    """The verbs of `real`, without their effects; `plan` says what those would have been."""

    def __init__(self, real: Cluster) -> None:
        super().__init__(real.configuration)
        self._real = real
        self.plan: list[str] = []

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest:
        """See Cluster."""
        return await self._real.get(api_version, kind, namespace, name)

    async def list(
        self, api_version: str, kind: str, namespace: str, labels: Mapping[str, str]
    ) -> list[Manifest]:
        """See Cluster."""
        return await self._real.list(api_version, kind, namespace, labels)

    async def apply(
        self, manifest: Manifest, *, field_manager: str = FIELD_MANAGER, dry_run: bool = True
    ) -> Manifest:
        """See Cluster; notes whether it would create or change the object, and which fields."""
        del dry_run  # there is no other way here
        metadata = manifest["metadata"]
        where = (manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])
        try:
            live: Manifest | None = await self._real.get(*where)
        except NotFoundError:
            live = None
        result = await self._real.apply(manifest, field_manager=field_manager, dry_run=True)
        self._note(manifest["kind"], metadata["name"], live, result)
        return result

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
        dry_run: bool = True,
    ) -> Manifest:
        """See Cluster; notes which fields it would change."""
        del dry_run  # as above
        live = await self._real.get(api_version, kind, namespace, name)
        result = await self._real.patch(
            api_version,
            kind,
            namespace,
            name,
            change,
            subresource=subresource,
            field_manager=field_manager,
            dry_run=True,
        )
        self._note(kind, name, live, result)
        return result

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, *, uid: str) -> None:
        """See Cluster; notes that the object would go."""
        del api_version, namespace, uid
        self.plan.append(f"{kind} {name}: deleted")

    def _note(self, kind: str, name: str, live: Manifest | None, result: Manifest) -> None:
        if live is None:
            self.plan.append(f"{kind} {name}: created")
        elif changes := list(differences(_comparable(live), _comparable(result))):
            self.plan.append(f"{kind} {name}: {', '.join(changes)}")


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """The paths at which two objects differ, in order; items of lists that have names are told apart by them."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and _names(before) and _names(after):
        left, right = _by_name(before), _by_name(after)
        for name in sorted(left.keys() | right.keys()):
            yield from differences(left.get(name), right.get(name), f"{path}[{name}]")
    elif before != after:
        told = path.rpartition(".")[2] in _TOLD
        yield f"{path} {before} -> {after}" if told else path


def _comparable(manifest: Manifest) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _THE_SERVERS_OWN}
    rest = {name: value for name, value in manifest.items() if name not in {"status", "apiVersion", "kind"}}
    return rest | {"metadata": metadata}


def _names(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)


def _by_name(items: list[Any]) -> dict[str, Any]:
    return {item["name"]: item for item in items}
