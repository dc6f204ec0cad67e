"""Manifests from files: read, validated as the API server would, all mistakes reported at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate_cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Sequence
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
    label: str = ""
    """What tells it from the other pipelines of its file; empty when there are none."""

    def called(self, branch: str) -> str:
        """A branch of it as people write it: PIPELINE/BRANCH where the file has several pipelines."""
        return f"{self.label}/{branch}" if self.label else branch


def read_documents(file: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file that are not empty; raises CommandError."""
    from headgate_operator import documents  # noqa: PLC0415
    from headgate_operator.pipeline import ManifestError  # noqa: PLC0415

    try:
        return documents.read_documents(file.read_text(), str(file))
    except OSError as error:
        raise CommandError(f"{file}: cannot be read: {error.strerror}", Exit.INVALID) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: is not YAML: {error}", Exit.INVALID) from error
    except ManifestError as error:
        raise CommandError(str(error), Exit.INVALID) from error


def pipelines_in(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are a FanoutPipeline."""
    return [each for each in documents if each.get("kind") == "FanoutPipeline"]


def mistakes(file: Path, documents: Sequence[dict[str, Any]], namespace: str | None = None) -> list[str]:
    """Every mistake of a file's pipelines, those of the API server in its words, each with what to do.

    `namespace` is where all of them go, if given, whatever they say.
    """
    if not documents:
        return [f"{file}: has no FanoutPipeline: write `kind: FanoutPipeline`"]
    from headgate_operator import documents as written  # noqa: PLC0415

    found = []
    for number, document in enumerate(documents):
        where = f"{file}: "
        if len(documents) > 1:
            where += f"{_name(document) or f'FanoutPipeline {number}'}: "
        found += [f"{where}{mistake}" for mistake in written.mistakes(document)]
    return found or _doubles(file, [_place(each, namespace) for each in documents])


def load_all(file: Path, namespace: str | None = None) -> tuple[Manifest, ...]:
    """The FanoutPipelines of a file, in `namespace` if given; raises CommandError with every mistake."""
    everything = read_documents(file)
    documents = pipelines_in(everything)
    if found := mistakes(file, documents, namespace):
        raise CommandError("the manifest is refused\n" + "\n".join(found), Exit.INVALID)
    from headgate_operator.pipeline import load_pipeline  # noqa: PLC0415
    from headgate_operator.validation import admitted  # noqa: PLC0415

    secrets = tuple(each for each in everything if each.get("kind") == "Secret")
    names = Counter(_name(each) for each in documents)
    manifests = []
    for document in map(admitted, documents):
        metadata = document["metadata"]
        document |= {"metadata": metadata | ({"namespace": namespace} if namespace else {})}
        pipeline = load_pipeline(document)
        label = pipeline.name if names[pipeline.name] == 1 else str(pipeline)
        manifests.append(
            Manifest(
                file,
                document,
                pipeline,
                sample_events=(metadata.get("annotations") or {}).get(SAMPLE_EVENTS),
                secrets=secrets,
                label=label if len(documents) > 1 else "",
            )
        )
    return tuple(manifests)


def _doubles(file: Path, places: Sequence[tuple[str, str]]) -> list[str]:
    """Names that several pipelines have: of those the API server would keep the last alone."""
    return [
        f"{file}: metadata.name: {name!r}: {count} FanoutPipelines of this name in namespace {namespace} (give each"
        " its own)"
        for (namespace, name), count in Counter(places).items()
        if count > 1
    ]


def _place(document: dict[str, Any], namespace: str | None) -> tuple[str, str]:
    return namespace or document["metadata"].get("namespace") or "default", _name(document)


def _name(document: dict[str, Any]) -> str:
    """A pipeline's name; empty when it has none that could be one."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""
