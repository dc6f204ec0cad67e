"""Manifests and handlers for pipelines in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate import Event


def branch(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "handler": {"python": {"image": "i", "function": "shop:nothing"}}, **more}


def manifest(*branches: dict[str, Any], name: str = "orders", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": name},
        "spec": {"branches": list(branches), **spec},
    }


def failing(*errors: BaseException | None, then: Any = "ok") -> Any:
    """A handler that fails with each of these in turn, and then gives `then`."""
    left = list(errors)

    async def handler(_: Event) -> Any:
        if left and (error := left.pop(0)) is not None:
            raise error
        return then

    return handler


async def echo(event: Event) -> Any:
    return event.data
