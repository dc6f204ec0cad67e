"""The manifest of a test: a file, its text or a dictionary, read and checked by the operator's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from headgate_operator import expressions
from headgate_operator.api import KIND
from headgate_operator.pipeline import ManifestError, load_pipeline
from headgate_operator.validation import admitted, validate

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from headgate_operator.pipeline import Pipeline

    Source = str | os.PathLike[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The pipelines of a manifest, the folder that handlers are imported from, and the Secrets beside them."""

    pipelines: tuple[Pipeline, ...]
    folder: Path
    secrets: tuple[dict[str, Any], ...] = field(default=(), repr=False)


class _Loader(yaml.SafeLoader):
    """Leaves times as they are written, as kubectl does."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_manifest(source: Source, folder: str | os.PathLike[str] | None) -> Manifest:
    """The manifest; a string with a line's end in it is its text, any other the path of a file.

    Without `folder`, handlers are imported from the file's own, or else from the current one. Documents of other kinds
    are passed over. Raises ManifestError with every mistake, OSError when the file cannot be read.
    """
    where = Path.cwd()
    if isinstance(source, Mapping):
        documents = [dict(source)]
    elif isinstance(source, str) and "\n" in source:
        documents = _documents(source, "the manifest")
    else:
        file = Path(source)
        where = file.resolve().parent
        documents = _documents(file.read_text(encoding="utf-8"), str(file))
    found = [each for each in documents if each.get("kind") == KIND]
    if not found:
        raise ManifestError(f"kind: has no {KIND}: write `apiVersion: headgate.dev/v1alpha1`, `kind: {KIND}`")
    if mistakes := [text for each in found for text in _mistakes(each, is_alone=len(found) == 1)]:
        raise ManifestError("the manifest is refused\n" + "\n".join(mistakes))
    pipelines = tuple(load_pipeline(admitted(each)) for each in found)
    for name, count in Counter(map(str, pipelines)).items():
        if count > 1:
            raise ManifestError(
                f"metadata.name: {count} pipelines are called {name}: give each a name of its own"
            )
    return Manifest(
        pipelines,
        where if folder is None else Path(folder).resolve(),
        tuple(each for each in documents if each.get("kind") == "Secret"),
    )


def _documents(text: str, name: str) -> list[dict[str, Any]]:
    try:
        documents = [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{name} is not YAML: {error}") from error
    for document in documents:
        if not isinstance(document, dict):
            raise ManifestError(f"{name}: {document!r} is no manifest: write one with apiVersion, kind, spec")
    return documents


def _mistakes(document: dict[str, Any], *, is_alone: bool) -> Iterable[str]:
    """Every mistake, in the words of the API server, each with what to do."""
    refused = validate(document)
    known = {error.field for error in refused}
    compiled = [error for error in expressions.mistakes(document) if error.field not in known]
    metadata = document.get("metadata")
    name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
    return [f"{'' if is_alone else f'{name}: '}{error} ({error.remedy})" for error in (*refused, *compiled)]
