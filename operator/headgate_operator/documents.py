"""Manifests as people write them: YAML documents, and every mistake in one, each with what to do."""

from __future__ import annotations

from typing import Any

import yaml

from headgate_operator import expressions
from headgate_operator.pipeline import ManifestError
from headgate_operator.validation import validate


class _Loader(yaml.SafeLoader):
    """Leaves times as they are written, as kubectl does."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_documents(text: str, name: str) -> list[dict[str, Any]]:
    """The documents of a text that are not empty; `name` is what errors call it. Raises ManifestError."""
    try:
        documents = [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{name}: is not YAML: {error}") from error
    for document in documents:
        if not isinstance(document, dict):
            raise ManifestError(f"{name}: {document!r} is no manifest: write one with apiVersion, kind, spec")
    return documents


def mistakes(document: dict[str, Any]) -> list[str]:
    """Every mistake of a pipeline, those of the API server in its words, each with what to do."""
    refused = validate(document)
    known = {error.field for error in refused}  # one mistake is told once
    compiled = [error for error in expressions.mistakes(document) if error.field not in known]
    return [f"{error} ({error.remedy})" for error in (*refused, *compiled)]
