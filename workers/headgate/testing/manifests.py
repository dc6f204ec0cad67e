"""The manifest of a test: a file, its text or a dictionary, read and checked by the operator's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate_operator.api import KIND
from headgate_operator.documents import mistakes, read_documents
from headgate_operator.pipeline import ManifestError, load_pipeline
from headgate_operator.validation import admitted

if TYPE_CHECKING:
    import os

    from headgate_operator.pipeline import Pipeline

    Source = str | os.PathLike[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The pipelines of a manifest, the folder that handlers are imported from, and the Secrets beside them."""

    pipelines: tuple[Pipeline, ...]
    folder: Path
    secrets: tuple[dict[str, Any], ...] = field(default=(), repr=False)


def load_manifest(source: Source, folder: str | os.PathLike[str] | None) -> Manifest:
    """The manifest; a string with a line's end in it is its text, any other the path of a file.

    Without `folder`, handlers are imported from the file's own, or else from the current one. Documents of other kinds
    are passed over. Raises ManifestError with every mistake, OSError when the file cannot be read.
    """
    where = Path.cwd()
    if isinstance(source, Mapping):
        documents = [dict(source)]
    elif isinstance(source, str) and "\n" in source:
        documents = read_documents(source, "the manifest")
    else:
        file = Path(source)
        where = file.resolve().parent
        documents = read_documents(file.read_text(encoding="utf-8"), str(file))
    found = [each for each in documents if each.get("kind") == KIND]
    if not found:
        raise ManifestError(f"kind: has no {KIND}: write `apiVersion: headgate.dev/v1alpha1`, `kind: {KIND}`")
    if wrong := [text for each in found for text in _mistakes(each, is_alone=len(found) == 1)]:
        raise ManifestError("the manifest is refused\n" + "\n".join(wrong))
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


def _mistakes(document: dict[str, Any], *, is_alone: bool) -> list[str]:
    metadata = document.get("metadata")
    name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
    return [f"{'' if is_alone else f'{name}: '}{mistake}" for mistake in mistakes(document)]
