"""Manifests from files: read, validated as the API server would, all mistakes reported at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate_cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from pathlib import Path

    from headgate_operator.pipeline import Pipeline

SAMPLE_EVENTS = "headgate.dev/sample-events"


@dataclass(frozen=True)
class Manifest:
    """One valid pipeline and the file it stands in."""

    file: Path
    document: dict[str, Any]
    """The manifest as the API server would keep it, in its final namespace."""
    pipeline: Pipeline
    sample_events: str | None
    """`module:function` that makes events to try the pipeline with; None when it names none."""
    secrets: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """The documents of kind Secret beside it: on this machine nobody else has any."""


def read_documents(file: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file that are not empty; raises CommandError."""
    import yaml  # noqa: PLC0415

    class Loader(yaml.SafeLoader):
        """Leaves times as they are written, as kubectl does."""

    Loader.yaml_implicit_resolvers = {
        first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        read = yaml.load_all(file.read_text(), Loader)
        documents = [each for each in read if each is not None]
    except OSError as error:
        raise CommandError(f"{file}: cannot be read: {error.strerror}", Exit.INVALID) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: is not YAML: {error}", Exit.INVALID) from error
    for document in documents:
        if not isinstance(document, dict):
            raise CommandError(
                f"{file}: {document!r} is no manifest: write one with apiVersion, kind, spec", Exit.INVALID
            )
    return documents


def mistakes(file: Path, document: dict[str, Any]) -> list[str]:
    """Every mistake of a manifest, those of the API server in its words, each with what to do."""
    from headgate_operator import expressions  # noqa: PLC0415
    from headgate_operator.validation import validate  # noqa: PLC0415

    refused = validate(document)
    known = {error.field for error in refused}  # one mistake is told once
    compiled = [error for error in expressions.mistakes(document) if error.field not in known]
    return [f"{file}: {error} ({error.remedy})" for error in (*refused, *compiled)]


def load(file: Path, namespace: str | None = None) -> Manifest:
    """The one FanoutPipeline of a file, in `namespace` if given; raises CommandError with every mistake."""
    everything = read_documents(file)
    documents = [each for each in everything if each.get("kind") == "FanoutPipeline"]
    if len(documents) != 1:
        found = "no FanoutPipeline" if not documents else f"{len(documents)} FanoutPipelines"
        raise CommandError(f"{file}: has {found}: give a file with exactly one", Exit.INVALID)
    document = documents[0]
    if found_mistakes := mistakes(file, document):
        raise CommandError("the manifest is refused\n" + "\n".join(found_mistakes), Exit.INVALID)
    from headgate_operator.pipeline import load_pipeline  # noqa: PLC0415
    from headgate_operator.validation import admitted  # noqa: PLC0415

    document = admitted(document)
    metadata = document["metadata"]
    document |= {"metadata": metadata | ({"namespace": namespace} if namespace else {})}
    return Manifest(
        file,
        document,
        load_pipeline(document),
        sample_events=(metadata.get("annotations") or {}).get(SAMPLE_EVENTS),
        secrets=tuple(each for each in everything if each.get("kind") == "Secret"),
    )
