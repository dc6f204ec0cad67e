"""Pipelines for unit tests, as the API server would hand them over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_cli.manifests import load_all
from headgate_operator.api import API_VERSION, KIND
from headgate_operator.pipeline import Pipeline, load_pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from headgate_cli.manifests import Manifest


def manifest(*branches: dict[str, Any], generation: int = 1, **spec: Any) -> dict[str, Any]:
    """The pipeline shop/orders; a branch says only what matters to the test."""
    python = {"python": {"image": "shop:1", "function": "shop:work"}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": "shop", "name": "orders", "uid": "u-1", "generation": generation},
        "spec": {"branches": [{"handler": python, "name": "pack"} | b for b in branches or ({},)]} | spec,
    }


def pipeline(*branches: dict[str, Any], generation: int = 1, **spec: Any) -> Pipeline:
    """The same, loaded."""
    return load_pipeline(manifest(*branches, generation=generation, **spec))


def load(file: Path, namespace: str | None = None) -> Manifest:
    """The one pipeline of a file."""
    (found,) = load_all(file, namespace)
    return found
